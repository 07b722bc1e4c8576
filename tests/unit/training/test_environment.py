"""What a run was made with, and what is said when the next start is made with something else."""

import json
from pathlib import Path
from typing import Any

import pytest

from ml_playground.core.atomic import read_lines
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import Event
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.assembly import opened
from ml_playground.training.environment import environment_changes, record_start
from ml_playground.training.hooks.records import EventLog
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.hooks import Told
from tests.fakes.tiny_job import tiny_job


def started(folder: Path, told: Told) -> RunFolder:
    """A start of a run, or the next one."""
    run = RunFolder(folder / "run")
    run.path.mkdir(exist_ok=True)
    job = tiny_job(folder)
    prepare(job.prepare, Deps())
    record_start(opened(job, run), run, None, EventLog(run, FixedClock()), 7, told)
    return run


def changed_events(run: RunFolder) -> list[Event]:
    """What was noted of changes."""
    return [
        event
        for line in read_lines(run.events)
        if (event := Event.model_validate_json(line)).kind == "environment_changed"
    ]


def test_record_start_in_the_same_environment_says_nothing(tmp_path: Path) -> None:
    """The first start has nothing to be compared with, the second one is the same."""
    told = Told()
    started(tmp_path, told)
    run = started(tmp_path, told)
    assert told == []
    assert changed_events(run) == []
    assert {"python", "commit", "packages", "device", "threads"} <= json.loads(run.environment.read_text()).keys()


def test_record_start_in_another_environment_says_what_changed_and_notes_it(tmp_path: Path) -> None:
    """The promise of equal bits holds within one environment; leaving it must not happen in silence."""
    run = started(tmp_path, Told())
    record: dict[str, Any] = json.loads(run.environment.read_text())
    torch_version, python = record["packages"]["torch"], record["python"]
    record["packages"]["torch"] = "2.9.0"
    record["python"] = "3.11.0"
    run.environment.write_text(json.dumps(record))
    told = Told()
    started(tmp_path, told)
    changes = [f"python: 3.11.0 -> {python}", f"torch: 2.9.0 -> {torch_version}"]
    assert told == [
        f"the environment is not that of this run's last start, so its numbers may differ: {'; '.join(changes)}"
    ]
    (event,) = changed_events(run)
    assert (event.step, event.data) == (7, {"changes": changes})
    assert json.loads(run.environment.read_text())["python"] == python


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"packages": 3, "python": 3}'])
def test_record_start_over_a_damaged_record_writes_a_new_one(tmp_path: Path, damage: str) -> None:
    """It is only compared; a run must not end for it."""
    started(tmp_path, Told())
    run = started(tmp_path, Told())
    whole = run.environment.read_text()
    run.environment.write_text(damage)
    started(tmp_path, Told())
    assert run.environment.read_text() == whole


@pytest.mark.parametrize("former", [{"python": "3.11"}, {"python": "3.11", "commit": None}])
def test_environment_changes_of_facts_that_only_one_record_knows_are_none(former: dict[str, Any]) -> None:
    """An older version wrote down less; git did not answer on a machine that was busy."""
    present = {"python": "3.11", "commit": "abc", "packages": {"torch": "2"}}
    assert environment_changes(former, present) == environment_changes(present, former) == []
    assert environment_changes({"commit": "abc"}, {"commit": "abd"}) == ["commit: abc -> abd"]
