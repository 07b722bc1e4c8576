"""A run is found by other processes before it is checked, and one that is refused leaves nothing behind."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, RunError
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.engine import run_job
from ml_playground.training.resume import choose_run
from ml_playground.training.run_lock import nothing_left_of_a_false_start, one_start_at_a_time, write_job
from tests.fakes.tiny_job import tiny_job


def prepared(folder: Path) -> JobConfig:
    """Long enough to be tried."""
    job = tiny_job(folder, train={"max_steps": 24, "evaluate_every_steps": 8, "evaluation_batches": 2})
    prepare(job.prepare, Deps())
    return job


def stopping_after(steps: int) -> Deps:
    """A user who stops after so many steps."""
    answers = iter([False] * (steps - 1) + [True] * 1000)
    return Deps(stop_requested=lambda: next(answers))


class SecondStart:
    """A clock that starts the same job once more while the first start is being checked."""

    def __init__(self, job: JobConfig, runs: Path) -> None:
        self._job, self._runs = job, runs
        self.said: list[str] = []

    def now(self) -> datetime:
        """The time of day."""
        return datetime.now(UTC)

    def tick(self) -> float:
        """Seconds; the first time it takes what the second start takes to be refused."""
        if not self.said:
            self.said.append("")
            choice = choose_run(self._job, self._runs)
            assert choice.run is not None
            assert not choice.run.environment.exists()
            with pytest.raises(RunError) as caught:
                run_job(self._job, Deps(), choice)
            self.said.append(str(caught.value))
        return time.monotonic()


def test_run_that_is_being_checked_is_found_by_a_second_start(tmp_path: Path) -> None:
    """It is refused, and begins no twin."""
    job = prepared(tmp_path)
    runs = tmp_path / "home" / "runs"
    clock = SecondStart(job, runs)
    run_job(job, Deps(clock=clock))
    assert "is being trained by another process" in clock.said[1]
    assert len(list((runs / job.name).iterdir())) == 1


def test_run_that_was_killed_in_its_check_is_begun_and_a_refusal_takes_it_away(tmp_path: Path) -> None:
    """Its settings alone lie there: nothing was computed. Who breaks off does not mean to lose it."""
    job = prepared(tmp_path)
    run = RunFolder(tmp_path / "home" / "runs" / "tiny" / "20260102-030405-abcd")
    write_job(run, job)
    with pytest.raises(KeyboardInterrupt), nothing_left_of_a_false_start(run, job):
        raise KeyboardInterrupt
    assert run.config.exists()
    with pytest.raises(ConfigError), nothing_left_of_a_false_start(run, job):
        raise ConfigError("too large")
    assert not run.path.exists()
    write_job(run, job)
    result = run_job(job, Deps())
    assert (result.run, result.reason) == (run.path, "completed")


def test_start_that_is_broken_off_leaves_nothing_of_its_own(tmp_path: Path) -> None:
    """Ctrl-C while it is checked, before its first step."""
    job = prepared(tmp_path)
    run = RunFolder(tmp_path / "home" / "runs" / "tiny" / "20260102-030405-abcd")
    with pytest.raises(KeyboardInterrupt), nothing_left_of_a_false_start(run, job):
        raise KeyboardInterrupt
    assert not run.path.exists()


def test_start_waits_until_the_one_before_has_claimed_its_run(tmp_path: Path) -> None:
    """Another process that starts the same experiment; others start meanwhile. After a kill nobody waits."""
    began: list[str] = []

    def start(name: str) -> None:
        with one_start_at_a_time(name):
            began.append(name)

    with one_start_at_a_time("tiny"):
        second = threading.Thread(target=start, args=("tiny",))
        second.start()
        start("other")
        second.join(0.1)
        assert (second.is_alive(), began) == (True, ["other"])
    second.join()
    assert began == ["other", "tiny"]
    assert not (tmp_path / "home" / "runs").exists()


def test_refused_resume_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    """It holds steps that were computed, even where the record of its environment is gone."""
    job = prepared(tmp_path)
    run = RunFolder(run_job(job, stopping_after(9)).run)
    run.environment.unlink()
    with pytest.raises(KeyboardInterrupt), nothing_left_of_a_false_start(run, job):
        raise KeyboardInterrupt
    assert list(run.checkpoints.rglob("*.safetensors"))
