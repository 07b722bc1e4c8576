"""A bad step is undone: the run ends as one whose data never had its batches, wherever it was saved, stopped or killed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import write_file
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder, runs_folder
from ml_playground.core.run_schema import ControlRequest
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.engine import run_job
from ml_playground.training.protocols import JobResult
from ml_playground.training.resume import Choice
from tests.fakes.poisoned import known_kinds, poisoned
from tests.fakes.tiny_job import TEXT, tiny_job
from tests.faults.drivers import driven

STEPS = 18


@pytest.fixture(autouse=True)
def _poison() -> Iterator[None]:
    """The kinds are known to these tests alone."""
    with known_kinds():
        yield


def job_of(folder: Path, **sections: Any) -> JobConfig:
    """A short job whose data are prepared."""
    plain: dict[str, Any] = {
        "train": {"max_steps": STEPS, "evaluate_every_steps": 6, "evaluation_batches": 1, "log_every_steps": 4},
        "checkpointing": {"every_steps": 5},
        # Nothing is "auto", so nothing of the machine is measured.
        "runtime": {
            "attention": "math",
            "compile": False,
            "activation_checkpointing": False,
            "allocator": "system",
            "flight_check": False,
        },
        "model": {"dropout": 0.1},
    }
    for name, section in sections.items():
        plain[name] = plain.get(name, {}) | section
    job = tiny_job(folder, **plain)
    prepare(job.prepare, Deps())
    return job


def events(result: JobResult, kind: str) -> list[dict[str, Any]]:
    """The events of a kind."""
    rows = [json.loads(line) for line in RunFolder(result.run).events.read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def tensors(run: Path) -> dict[str, bytes]:
    """The last checkpoint, byte by byte."""
    last = max((run / "checkpoints").iterdir())
    assert last.name == f"step_{STEPS:06d}"
    return {path.name: path.read_bytes() for path in last.glob("*.safetensors")}


def losses(run: Path) -> list[Any]:
    """The rows of `metrics.jsonl` without what the clock says."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["kind"], row["step"], row["values"]) for row in rows]


CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "the first step": ((0,), {}),
    "between checkpoints": ((7,), {}),
    "the last step": ((17,), {}),
    "one after another": ((7, 8), {}),
    "far apart": ((2, 12), {"train": {"ema_decay": 0.9}}),
    "two micro-batches a step": ((14, 15), {"train": {"micro_batches_per_step": 2}, "optimizer": {"kind": "muon"}}),
}


@pytest.mark.parametrize("name", CASES)
def test_run_rolled_back_equals_one_whose_data_never_had_the_batch(name: str, tmp_path: Path) -> None:
    """Weights, optimizer state, mean and every loss, bit for bit; the step is done once more with the next batch."""
    poison, sections = CASES[name]
    hit = run_job(job_of(tmp_path, **poisoned(poison), **sections), Deps())
    spared = run_job(job_of(tmp_path, **poisoned(without=poison), **sections), Deps())
    assert (hit.reason, spared.reason) == ("completed", "completed")
    assert tensors(hit.run) == tensors(spared.run)
    assert losses(hit.run) == losses(spared.run)
    set_aside = [number for event in events(hit, "rolled_back") for number in event["data"]["batches"]]
    assert sorted(set_aside) == list(poison)
    assert events(spared, "rolled_back") == []


@pytest.mark.parametrize("every_steps", [1, 3, 8, None])
def test_run_rolled_back_does_not_depend_on_the_checkpoint_it_went_back_to(
    every_steps: int | None, tmp_path: Path
) -> None:
    """Nor on when the bad number was read."""
    sections: dict[str, Any] = {"checkpointing": {"every_steps": every_steps, "keep_best": 0}}
    other = run_job(job_of(tmp_path, **poisoned((9,)), train={"log_every_steps": every_steps or 7}, **sections), Deps())
    plain = run_job(job_of(tmp_path, **poisoned((9,))), Deps())
    assert tensors(other.run) == tensors(plain.run)


@pytest.mark.parametrize("stop_after", [7, 8, 10, 11, 13, 14, 16])
def test_run_rolled_back_and_stopped_goes_on_as_if_it_had_not_been(stop_after: int, tmp_path: Path) -> None:
    """Before the bad step, in an evaluation, at the step, while it is undone, and after: counted in what the loop asks."""
    job = job_of(tmp_path, **poisoned((9,)))
    whole = run_job(job.model_copy(update={"name": "whole"}), Deps())
    asked = iter([False] * (stop_after - 1) + [True] * 99)
    first = run_job(job, Deps(stop_requested=lambda: next(asked)))
    assert first.reason == "paused"
    second = run_job(job, Deps())
    assert second.run == first.run
    assert tensors(second.run) == tensors(whole.run)
    assert losses(second.run) == losses(whole.run)
    assert len(events(second, "rolled_back")) == 1


def test_run_rolled_back_and_killed_at_random_moments_ends_with_the_same_bits(tmp_path: Path) -> None:
    """Ended by the system between any two instructions, in the midst of going back too."""
    job = job_of(tmp_path, **poisoned((3, 9)))
    (tmp_path / "job.json").write_text(job.model_dump_json())
    told = json.loads(
        driven("tests.integration.roll_back_and_kill", str(tmp_path), timeout_s=600).stdout.splitlines()[-1]
    )
    assert told["kills"] >= 4
    assert tensors(Path(told["killed"])) == tensors(Path(told["whole"]))
    assert losses(Path(told["killed"])) == losses(Path(told["whole"]))


# The loop asks after each step, and once in the evaluation of step 6.
@pytest.mark.parametrize("asked_after", [10, 12, 13], ids=["step 9", "step 11", "step 12"])
def test_run_rolled_back_obeys_a_pause_that_was_asked_for_meanwhile(asked_after: int, tmp_path: Path) -> None:
    """Step 9 is bad, and known to be after step 12: a request that was taken in between is not undone with the steps."""
    job = job_of(tmp_path, **poisoned(poison=(8,)), hooks={"control": {"kind": "control", "every_seconds": 0.0}})
    run = runs_folder() / job.name / "asked"
    asks = 0

    def ask() -> bool:
        nonlocal asks
        asks += 1
        if asks == asked_after:
            write_file(RunFolder(run).control / "pause.json", ControlRequest(action="pause").model_dump_json())
        return False

    result = run_job(job, Deps(stop_requested=ask), Choice("resume", RunFolder(run)))
    assert (result.reason, len(events(result, "rolled_back"))) == ("paused", 1)


def test_run_whose_batches_are_all_bad_gives_up_after_the_tries(tmp_path: Path) -> None:
    """With a reason, a checkpoint from before, and the evidence of each try."""
    result = run_job(job_of(tmp_path, **poisoned(tuple(range(7, 30))), train={"bad_step_tries": 2}), Deps())
    assert (result.reason, result.step) == ("nan", 8)
    assert result.message.startswith(
        "at step 8 the loss was nan and the gradient norm nan after 2 such steps (train.bad_step_tries); "
        "the checkpoint of step 6 is from before."
    )
    names = sorted(path.name for path in (result.run / "bad_batches").iterdir())
    assert names == ["step_000008_batch_000007.json", "step_000008_batch_000008.json"]
    assert json.loads(RunFolder(result.run).result.read_text())["reason"] == "nan"


def test_run_that_ended_with_a_bad_step_goes_on_when_told_to_roll_back(tmp_path: Path) -> None:
    """What is done about a bad step is free to change, so that a night's work is not lost to a setting."""
    job = job_of(tmp_path, **poisoned((9,)), train={"on_bad_step": "stop"})
    first = run_job(job, Deps())
    assert first.reason == "nan"
    second = run_job(job_of(tmp_path, **poisoned((9,))), Deps())
    assert (second.run, second.reason) == (first.run, "completed")


def test_run_with_a_spike_is_rolled_back_without_it(tmp_path: Path) -> None:
    """A loss that is a number, but far above those before: bit for bit the run whose data never had the batch."""
    longer: dict[str, Any] = {"train": {"max_steps": 90, "spike_factor": 20.0, "evaluate_every_steps": 90}}
    sections: dict[str, Any] = {"schedule": {"warmup_steps": 5}, "checkpointing": {"every_steps": 20}, **longer}
    hit = run_job(job_of(tmp_path, **poisoned((75,), factor=40.0), **sections), Deps())
    spared = run_job(job_of(tmp_path, **poisoned(without=(75,), factor=40.0), **sections), Deps())
    (event,) = events(hit, "rolled_back")
    assert event["data"]["batches"] == [75]
    assert "the level of a spike (train.spike_factor = 20)" in event["data"]["why"]
    ends = [run.run / "checkpoints" / "step_000090" / "model.safetensors" for run in (hit, spared)]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_run_skipping_bad_steps_goes_on_with_sound_weights(tmp_path: Path) -> None:
    """Each bad step leaves a row in the metrics, an event, and nothing in the weights."""
    result = run_job(job_of(tmp_path, **poisoned((3, 9)), train={"on_bad_step": "skip"}), Deps())
    assert result.reason == "completed"
    assert [event["step"] for event in events(result, "skipped")] == [4, 10]
    assert result.metrics["loss"] > 0
    assert not (result.run / "bad_batches").exists()


def test_evidence_of_a_bad_step_is_its_text_and_its_numbers(tmp_path: Path) -> None:
    """Each row where it lies in the text, its loss; gradients, activations and weights, with what is not finite."""
    result = run_job(job_of(tmp_path, **poisoned((7,))), Deps())
    (path,) = (result.run / "bad_batches").iterdir()
    record = json.loads(path.read_text())
    assert (record["step"], record["batch"], record["weights_of_step"]) == (8, 7, 6)
    assert record["why"] == "the loss was nan and the gradient norm nan"
    rows = record["rows"]
    assert [row["position"] for row in rows] == [28, 29, 30, 31]
    text = TEXT[: len(TEXT) * 9 // 10 + 200]
    assert all(row["text"] in text and row["tokens"] == 17 for row in rows)
    assert all(text.index(row["text"][:16], row["first_token"]) == row["first_token"] for row in rows)
    assert record["loss_of_rows"] == ["nan"] * 4
    gradients = record["gradients"]
    assert all(numbers["not_finite"] > 0 for numbers in gradients.values())
    assert all(numbers["not_finite"] == 0 and numbers["norm"] > 0 for numbers in record["weights"].values())
    assert record["activations"]
    assert set(gradients) == set(record["weights"])
