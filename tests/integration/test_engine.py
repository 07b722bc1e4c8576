"""run_job on real parts: what it needs, what it leaves, and what it refuses."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import CheckpointError, ConfigError, DataError, RunError
from ml_playground.core.machine import probe
from ml_playground.core.machine_rates import Rates, identity_of, keep_rates
from ml_playground.core.run_folder import RunFolder, runs_folder
from ml_playground.data_pipeline.preparer import prepare, prepared_folder
from ml_playground.monitoring.comparison import compare_runs
from ml_playground.training.building import steps_of
from ml_playground.training.engine import run_job
from ml_playground.training.resume import Choice, Difference, choose_run
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.no_threads import no_threads
from tests.fakes.tiny_job import tiny_job


def prepared(folder: Path, **sections: Any) -> JobConfig:
    job = tiny_job(folder, **({"train": {"max_steps": 6, "log_every_steps": 3, "evaluation_batches": 2}} | sections))
    prepare(job.prepare, Deps())
    return job


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def stopping_after(steps: int) -> Deps:
    """A user who stops after so many steps."""
    answers = iter([False] * (steps - 1) + [True] * 1000)
    return Deps(stop_requested=lambda: next(answers))


def test_run_job_whole_job_leaves_a_whole_run(tmp_path: Path) -> None:
    """Everything that DESIGN 8 lists is there and can be read."""
    result = run_job(prepared(tmp_path), Deps())
    run = RunFolder(result.run)
    assert (result.reason, result.step, result.max_steps) == ("completed", 6, 6)
    assert result.metrics["loss"] > 0
    assert [row["step"] for row in lines(run.metrics) if row["kind"] == "train"] == list(range(1, 7))
    assert json.loads(run.config.read_text())["runtime"]["device"] == "cpu"
    environment = json.loads(run.environment.read_text())
    assert {"python", "commit", "packages", "seed"} <= environment.keys()
    assert environment["runtime"]["dtype"] == "as set"
    assert environment["runtime"]["compile"].startswith("would save about ")
    assert json.loads(run.result.read_text())["reason"] == "completed"
    assert json.loads(run.status.read_text())["state"] == "ended"
    assert (run.checkpoints / "step_000006" / "tokenizer" / "tokenizer.json").is_file()


def test_run_job_run_id_is_the_time_of_its_start(tmp_path: Path) -> None:
    """Runs sort by time."""
    result = run_job(prepared(tmp_path), Deps(clock=FixedClock()))
    assert result.run.name.startswith("20260102-030405-")


def test_run_job_again_has_nothing_to_do(tmp_path: Path) -> None:
    """A finished run answers with its own result."""
    job = prepared(tmp_path)
    first, again = run_job(job, Deps()), run_job(job, Deps())
    assert (again.nothing_to_do, again.run, again.metrics) == (True, first.run, first.metrics)


def test_run_job_paused_goes_on_in_the_same_run(tmp_path: Path) -> None:
    """The same job again takes up where it stopped."""
    job = prepared(tmp_path)
    first = run_job(job, stopping_after(2))
    second = run_job(job, Deps())
    assert (first.reason, first.step, second.reason, second.step) == ("paused", 2, "completed", 6)
    assert first.run == second.run
    assert [event["kind"] for event in lines(RunFolder(first.run).events)].count("resumed") == 1


def test_run_job_branch_with_more_steps_goes_on_and_says_so(tmp_path: Path) -> None:
    """A finished run may be lengthened; the run remembers that it is a branch."""
    first = run_job(prepared(tmp_path), Deps())
    longer = prepared(tmp_path, train={"max_steps": 8, "log_every_steps": 3, "evaluation_batches": 2})
    choice = choose_run(longer, first.run.parent.parent, named=RunFolder(first.run))
    second = run_job(longer, Deps(), choice)
    assert (second.run, second.step) == (first.run, 8)
    branched = next(event for event in lines(RunFolder(first.run).events) if event["kind"] == "branched")
    assert branched["data"] == {"differences": ["train.max_steps: saved 6, wanted 8 (recorded)"]}


def test_run_job_branch_to_fewer_steps_than_done_is_refused(tmp_path: Path) -> None:
    """It cannot be un-trained."""
    first = run_job(prepared(tmp_path), Deps())
    shorter = prepared(tmp_path, train={"max_steps": 3, "log_every_steps": 3}, schedule={"warmup_steps": 1})
    choice = choose_run(shorter, first.run.parent.parent, named=RunFolder(first.run))
    with pytest.raises(
        ConfigError, match=r"taken at step 6, but the run is now to end at step 3; set train.max_steps to 6"
    ):
        run_job(shorter, Deps(), choice)


@pytest.mark.parametrize("stopping", [False, True])
def test_run_job_killed_between_its_last_save_and_its_result_has_ended(tmp_path: Path, stopping: bool) -> None:
    """The last checkpoint itself knows that nothing was left to do: not a step is added."""
    hooks = {"stop": {"kind": "early_stopping", "patience": 1, "min_delta": 100.0, "enabled": stopping}}
    job = prepared(tmp_path, hooks=hooks, train={"max_steps": 8, "evaluate_every_steps": 2, "evaluation_batches": 2})
    first = run_job(job, Deps())
    RunFolder(first.run).result.unlink()
    again = run_job(job, Deps())
    assert (again.reason, again.step, again.metrics) == (first.reason, first.step, first.metrics)
    assert RunFolder(first.run).result.exists()


def test_run_job_branch_killed_before_its_first_save_goes_on_to_its_own_end(tmp_path: Path) -> None:
    """Its newest checkpoint is that of the run which had ended, and must not end the branch, too."""

    def killed() -> bool:
        raise SystemExit

    first = run_job(prepared(tmp_path), Deps())
    longer = prepared(tmp_path, train={"max_steps": 8, "log_every_steps": 3, "evaluation_batches": 2})
    choice = choose_run(longer, first.run.parent.parent, named=RunFolder(first.run))
    with pytest.raises(SystemExit):
        run_job(longer, Deps(stop_requested=killed), choice)
    again = run_job(longer, Deps())
    assert (again.run, again.reason, again.step) == (first.run, "completed", 8)


def test_run_job_no_whole_checkpoint_left_is_refused(tmp_path: Path) -> None:
    """Starting over in silence would lose the run."""
    job = prepared(tmp_path)
    run = RunFolder(run_job(job, stopping_after(2)).run)
    (run.checkpoints / "step_000002" / "stray.txt").write_text("x")
    with pytest.raises(
        CheckpointError, match=r"(?s)No checkpoint in .* is whole:.*stray.txt.*begin a new run beside it: --fresh"
    ):
        run_job(job, Deps())
    assert [row["step"] for row in lines(run.metrics)] == [1, 2]


def test_run_job_warmup_longer_than_the_epochs_is_refused(tmp_path: Path) -> None:
    """Also when the steps are computed."""
    job = prepared(tmp_path, train={"max_steps": None, "max_epochs": 0.02}, schedule={"warmup_steps": 100})
    with pytest.raises(
        ConfigError, match=r"schedule.warmup_steps = 100 is longer than the run, which has \d+ steps; make"
    ):
        run_job(job, Deps())


def test_run_job_short_run_warms_up_for_a_tenth_of_it_and_keeps_to_that(tmp_path: Path) -> None:
    """Said at the start and recorded; when the run is made longer, what it has begun with stays."""
    job = prepared(tmp_path, train={"max_steps": 20, "log_every_steps": 1}, schedule={"warmup_steps": "auto"})
    run = RunFolder(run_job(job, stopping_after(3)).run)
    assert json.loads(run.config.read_text())["schedule"]["warmup_steps"] == 2
    longer = job.model_copy(update={"train": job.train.model_copy(update={"max_steps": 40})})
    assert choose_run(job, runs_folder()).action == "resume"
    run_job(longer, Deps(), choose_run(longer, runs_folder(), named=run))
    assert json.loads(run.config.read_text())["schedule"]["warmup_steps"] == 2
    facts = [event["data"].get("warm-up") for event in lines(run.events) if event["kind"] in ("started", "resumed")]
    assert facts == ["2 steps in a run this short", None]
    rates = [row["values"]["lr"] for row in lines(run.metrics) if row["kind"] == "train"]
    assert rates[0] == rates[1] / 2


def test_run_job_unexpected_failure_leaves_its_traceback_in_the_log(tmp_path: Path) -> None:
    """And is raised."""

    class BrokenClock(FixedClock):
        def tick(self) -> float:
            raise RuntimeError("no clock")

    job = prepared(tmp_path)
    run = RunFolder(run_job(job, stopping_after(2)).run)
    with pytest.raises(RuntimeError, match="no clock"):
        run_job(job, Deps(clock=BrokenClock()))
    assert "RuntimeError: no clock" in run.log.read_text()


def test_run_job_requests_to_an_earlier_process_are_dropped(tmp_path: Path) -> None:
    """A pause that came too late does not pause the next start."""
    job = prepared(tmp_path)
    run = RunFolder(run_job(job, stopping_after(2)).run)
    run.control.mkdir(exist_ok=True)
    (run.control / "1.json").write_text('{"action": "pause"}')
    assert run_job(job, Deps()).reason == "completed"
    assert "control_dropped" in [event["kind"] for event in lines(run.events)]


def test_run_job_hook_name_of_another_kind_remembers_nothing(tmp_path: Path) -> None:
    """What one kind remembered means nothing to another."""
    stopping = {"x": {"kind": "early_stopping", "patience": 9}}
    run = RunFolder(run_job(prepared(tmp_path, hooks={"x": {"kind": "status"}}), stopping_after(2)).run)
    branch = prepared(tmp_path, hooks=stopping)
    choice = choose_run(branch, run.path.parent.parent, named=run)
    assert run_job(branch, Deps(), choice).reason == "completed"


def test_run_job_memory_that_gives_out_while_building_says_what_to_change(tmp_path: Path) -> None:
    """The command ends with 3, as when it gives out in a step."""
    job = prepared(tmp_path, model={"n_embd": 2**22}, runtime={"flight_check": False})
    with pytest.raises(MemoryError, match="fewer rows would not help: .* make the model smaller"):
        run_job(job, Deps())


def test_run_job_unprepared_data_says_what_to_type(tmp_path: Path) -> None:
    """And begins no run."""
    with pytest.raises(
        DataError, match=r"The data of 'tiny' are not prepared \(.* is missing\); run: mlp prepare tiny"
    ):
        run_job(tiny_job(tmp_path), Deps())
    assert not (tmp_path / "home" / "runs").exists()


def test_run_job_held_by_another_process_is_refused(tmp_path: Path) -> None:
    """Two processes on one run would destroy it."""
    job = prepared(tmp_path)
    run = RunFolder(run_job(job, stopping_after(2)).run)
    with (
        FileLock(run.lock),
        pytest.raises(RunError, match="is being trained by another process; wait for it, pause it"),
    ):
        run_job(job, Deps())


def test_run_job_on_other_data_than_it_began_with_is_refused(tmp_path: Path) -> None:
    """The text was changed and prepared anew under the same settings."""
    job = prepared(tmp_path)
    run_job(job, stopping_after(2))
    text = tmp_path / "text.txt"
    text.write_text(text.read_text().replace("green", "brown"))
    prepare(job.prepare, Deps(), fresh=True)
    with pytest.raises(DataError, match=r"step_000002 was trained on other data \(fingerprint .*; prepare the former"):
        run_job(job, Deps())


def test_run_job_damaged_data_file_is_found(tmp_path: Path) -> None:
    """A flipped byte in a token file is no silent change of the text."""
    job = prepared(tmp_path)
    tokens = prepared_folder(job.prepare) / "train.tokens"
    content = bytearray(tokens.read_bytes())
    content[100] ^= 1
    tokens.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.tokens"):
        run_job(job, Deps())


def test_run_job_damaged_newest_checkpoint_is_passed_over_and_named(tmp_path: Path) -> None:
    """The one before is used, and the run says so."""
    job = prepared(tmp_path, checkpointing={"every_steps": 2, "keep_last": 5})
    run = RunFolder(run_job(job, stopping_after(4)).run)
    damaged = run.checkpoints / "step_000004" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert run_job(job, Deps()).reason == "completed"
    resumed = next(event for event in lines(run.events) if event["kind"] == "resumed")
    assert resumed["step"] == 2
    assert "step_000004" in json.dumps(resumed["data"])


def test_run_job_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    """Never loaded halfway."""
    job = prepared(tmp_path)
    run = RunFolder(run_job(job, stopping_after(2)).run)
    wider = prepared(tmp_path, model={"n_embd": 32})
    with pytest.raises(CheckpointError, match="The saved model weights do not fit this job"):
        run_job(wider, Deps(), Choice("resume", run))


def test_run_job_false_start_leaves_no_run_behind(tmp_path: Path) -> None:
    """A model that cannot be built begins nothing."""
    job = prepared(tmp_path, model={"vocab_size": 3})
    with pytest.raises(ConfigError, match="vocab_size"):
        run_job(job, Deps())
    assert list((tmp_path / "home" / "runs").rglob("*-*")) == []


def test_run_job_loss_that_is_no_number_ends_with_that_reason(tmp_path: Path) -> None:
    """And the run is not finished."""
    job = prepared(tmp_path, optimizer={"lr": 1e30, "eps": 1e-30}, train={"max_steps": 6, "grad_clip": 0.0})
    result = run_job(job, Deps())
    assert result.reason == "nan"
    assert "Lower optimizer.lr" in result.message


def test_run_job_early_stopping_is_finished(tmp_path: Path) -> None:
    """Its own rule ended it: nothing is left to do."""
    hooks = {"stop": {"kind": "early_stopping", "patience": 1, "min_delta": 100.0}}
    job = prepared(tmp_path, hooks=hooks, train={"max_steps": 20, "evaluate_every_steps": 2, "evaluation_batches": 2})
    result = run_job(job, Deps())
    assert (result.reason, result.step) == ("stopped_early", 4)
    assert run_job(job, Deps()).nothing_to_do


def test_run_job_hook_that_is_off_is_not_built(tmp_path: Path) -> None:
    """`enabled = false` has its effect."""
    job = prepared(tmp_path, hooks={"metrics": {"kind": "jsonl_metrics", "enabled": False}})
    assert not RunFolder(run_job(job, Deps()).run).metrics.exists()


def test_run_job_out_of_memory_is_a_result_with_advice(tmp_path: Path) -> None:
    """A batch that no machine can hold: what to change, and no traceback."""
    job = prepared(tmp_path, data={"micro_batch_rows": 2**33}, runtime={"compile": False, "flight_check": False})
    result = run_job(job, Deps())
    assert result.reason == "out_of_memory"
    assert (
        "data.micro_batch_rows = 4294967296 and train.micro_batches_per_step = 2 (they are 8589934592 and 1)"
        in result.message
    )


def test_run_job_resumed_keeps_the_recorded_runtime_whatever_the_machine_now_measures(tmp_path: Path) -> None:
    """Another precision halfway would not end with the same bits."""
    job = prepared(tmp_path, runtime={"dtype": "auto"})
    slow, fast = Rates("cpu", 1, 2e11, 1e11, 5e10), Rates("cpu", 1, 2e11, 8e11, 5e10)
    keep_rates(identity_of(probe()), slow)
    run = RunFolder(run_job(job, stopping_after(3)).run)
    began_with = json.loads(run.config.read_text())["runtime"]
    keep_rates(identity_of(probe()), fast)
    assert RunFolder(run_job(job, Deps()).run) == run
    assert json.loads(run.config.read_text())["runtime"] == began_with
    assert began_with["dtype"] == "float32"
    fresh = RunFolder(run_job(job, Deps(), Choice("new")).run)
    assert json.loads(fresh.config.read_text())["runtime"]["dtype"] == "bfloat16"


def test_run_job_recomputing_says_so_at_the_start(tmp_path: Path) -> None:
    """It costs a third of the time; nobody should wonder where that goes."""
    result = run_job(prepared(tmp_path, runtime={"activation_checkpointing": True}), Deps())
    started = next(event for event in lines(RunFolder(result.run).events) if event["kind"] == "started")
    assert started["data"]["device"] == "cpu (float32, 1 thread, activations recomputed)"


@pytest.mark.parametrize(
    ("epochs", "micro_batches", "steps"), [(1.0, 1, 10), (2.0, 1, 20), (1.0, 4, 3), (0.01, 1, 1), (0.25, 1, 3)]
)
def test_steps_of_epochs_are_computed_and_rounded_up(
    tmp_path: Path, epochs: float, micro_batches: int, steps: int
) -> None:
    """Ten micro-batches an epoch."""
    length = {"max_steps": None, "max_epochs": epochs, "micro_batches_per_step": micro_batches}
    job = tiny_job(tmp_path, train=length, schedule={"warmup_steps": 0})
    assert steps_of(job, 10.0) == steps


@pytest.mark.parametrize(
    ("steps", "said"), [(6, '"epochs": "0.'), (3000, "epochs, so expect the text to be learnt by heart")]
)
def test_run_job_many_epochs_are_said_at_the_start(tmp_path: Path, steps: int, said: str) -> None:
    """A small text and a long run: said before the time is spent, not after."""
    job = prepared(tmp_path, train={"max_steps": steps, "log_every_steps": 3, "evaluation_batches": 2})
    run = RunFolder(run_job(job, stopping_after(1)).run)
    started = next(event for event in lines(run.events) if event["kind"] == "started")
    assert said in json.dumps(started["data"])


def test_choice_shows_its_differences_in_words() -> None:
    """What the console and the events carry."""
    assert str(Difference("train.max_steps", 6, 8, "recorded")) == "train.max_steps: saved 6, wanted 8 (recorded)"


def test_run_job_leaves_no_thread_behind(tmp_path: Path) -> None:
    """Checkpoints are written and batches may be read beside the training; with the run all of it ends."""
    before = set(threading.enumerate())
    run_job(prepared(tmp_path, checkpointing={"every_steps": 2, "every_minutes": None}), Deps())
    assert set(threading.enumerate()) <= before


def test_run_job_without_room_for_threads_ends_with_the_same_bits(tmp_path: Path) -> None:
    """Memory that is short refuses a thread at any moment; saves, hooks and words must not need one."""
    job = prepared(
        tmp_path,
        checkpointing={"every_steps": 2, "keep_last": 9},
        hooks={"console": {"kind": "console"}},
    )
    ended = [run_job(job, Deps(), Choice("new"))]
    with no_threads():
        ended.append(run_job(job, Deps(), Choice("new")))
    runs = [RunFolder(result.run) for result in ended]
    assert [(result.reason, result.step) for result in ended] == [("completed", 6)] * 2
    assert compare_runs(*runs).equal
    assert [(run.checkpoints / "step_000004" / "model.safetensors").is_file() for run in runs] == [True, True]
