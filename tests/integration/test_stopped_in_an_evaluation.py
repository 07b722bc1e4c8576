"""Real runs that are stopped in the midst of an evaluation end with the rows, the tensors and the samples of one that was not."""

import json
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import write_file
from ml_playground.core.checkpoint_format import latest
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder, runs_folder
from ml_playground.core.run_schema import ControlRequest
from ml_playground.core.values import Action
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.engine import run_job
from ml_playground.training.resume import Choice
from tests.fakes.tiny_job import tiny_job
from tests.faults.forking import faults_of_a_resumed

STEPS = 12
BATCHES = 3
"""Of an evaluation, which comes every four steps; twelve of the training's are put together in three."""
REQUESTED_AT = 2
"""Step behind which `mlp control` asks for an evaluation, which comes with the next step."""


JOBS: dict[str, dict[str, Any]] = {
    "AdamW, dropout, the best is kept": {"model": {"dropout": 0.1}},
    "Muon, averaged weights, accumulation": {
        "optimizer": {"kind": "muon"},
        "train": {"ema_decay": 0.9, "micro_batches_per_step": 2},
    },
    "early stopping": {"hooks": {"stop": {"kind": "early_stopping", "patience": 1, "min_delta": 100.0}}},
}


def prepared(folder: Path, **sections: Any) -> JobConfig:
    """Twelve steps, an evaluation every four, a sample every two."""
    plain: dict[str, Any] = {
        "train": {"max_steps": STEPS, "evaluate_every_steps": 4, "evaluation_batches": 12, "log_every_steps": 3},
        "prepare": {"val_fraction": 0.3},
        "checkpointing": {"every_steps": 5, "keep_last": 9, "keep_best": 1},
        "hooks": {
            "samples": {"kind": "samples", "every_steps": 2, "max_new_tokens": 4},
            "control": {"kind": "control", "every_seconds": 0.0},
        },
        "runtime": {"flight_check": False, "compile": False},
    }
    for name, section in sections.items():
        plain[name] = plain.get(name, {}) | section
    job = tiny_job(folder, **plain)
    prepare(job.prepare, Deps())
    return job


def asking(act: Callable[[int], bool]) -> Deps:
    """What is done, and whether a stop is wanted, each time that the process asks, counted from 1."""
    asks = count(1)
    return Deps(stop_requested=lambda: act(next(asks)))


def trained(job: JobConfig, name: str, asks: Sequence[int]) -> RunFolder:
    """A run in as many processes as it takes: each but the last is stopped when it asks for such a time."""
    run = RunFolder(runs_folder() / job.name / name)

    def request(step: int) -> None:
        if step == REQUESTED_AT:
            write_file(run.control / "1.json", ControlRequest(action="evaluate").model_dump_json())

    for process, ask in enumerate([*asks, 10**9]):

        def act(number: int, ask: int = ask, first: bool = process == 0) -> bool:
            if first:
                request(number)
            return number >= ask

        result = run_job(job, asking(act), Choice("resume", run))
        assert (result.reason == "paused") == (ask < 10**9)
    return run


REQUESTED = REQUESTED_AT + 1
FIRST = REQUESTED + BATCHES + 1
"""The number of the question behind step 4, before its evaluation."""

ASKS = {
    "before the first batch of one that was asked for": [REQUESTED + 1],
    "within one that was asked for": [REQUESTED + 3],
    "before the first batch": [FIRST + 1],
    "within": [FIRST + 2],
    "before the last batch of the last": [FIRST + 2 * (BATCHES + 4) + 3],
    "again and again": [FIRST + 2, 1, 3, 3 + 4 + 2],
}


@pytest.mark.parametrize("name", JOBS)
def test_run_stopped_in_an_evaluation_equals_one_that_was_left_alone(name: str, tmp_path: Path) -> None:
    """Each row once, every tensor, every sample; and the decisions of early stopping and of what is best."""
    job = prepared(tmp_path, **JOBS[name])
    whole = trained(job, "whole", [])
    over = json.loads(whole.result.read_text())
    for moment, asks in ASKS.items():
        if over["reason"] == "stopped_early" and moment in ("before the last batch of the last", "again and again"):
            continue
        run = trained(job, moment.replace(" ", "-"), asks)
        found = faults_of_a_resumed(run, whole, saved_more=True)
        assert [fault for fault in found if not fault.startswith("its result")] == [], moment
        assert json.loads(run.result.read_text()) == over, moment
        newest, other = latest(run.checkpoints), latest(whole.checkpoints)
        assert newest is not None and other is not None
        assert (newest.hooks, newest.metrics, newest.ending) == (other.hooks, other.metrics, other.ending), moment


def test_run_stopped_in_an_evaluation_says_so_and_keeps_what_is_owed(tmp_path: Path) -> None:
    """The result, the checkpoint, and the status of the next start."""
    job = prepared(tmp_path)
    run = RunFolder(runs_folder() / job.name / "paused")
    result = run_job(job, asking(lambda number: number >= 6), Choice("resume", run))
    assert (result.reason, result.step) == ("paused", 4)
    assert result.message == "paused in the evaluation of step 4; the same command goes on"
    newest = latest(run.checkpoints)
    assert newest is not None
    assert (newest.progress.step, newest.owed, newest.metrics) == (4, Action.EVALUATE | Action.SAVE, None)
    assert json.loads((newest.path / "progress.json").read_text())["owed"] == ["EVALUATE", "SAVE"]


def test_run_that_goes_back_and_is_stopped_leaves_before_it_is_built_anew(tmp_path: Path) -> None:
    """What is undone is in the events, so that nothing is lost; the next start builds what it needs."""
    # A rate that lets the second step overflow; the first is saved.
    bad = {"optimizer": {"lr": 1e30, "eps": 1e-30}, "train": {"on_bad_step": "roll_back", "grad_clip": 0.0}}
    job = prepared(tmp_path, **bad, checkpointing={"every_steps": 1}, schedule={"warmup_steps": 0})
    run = RunFolder(runs_folder() / job.name / "back")
    events = lambda: [json.loads(line)["kind"] for line in run.events.read_text().splitlines()]  # noqa: E731
    result = run_job(job, asking(lambda _: run.events.exists() and "rolled_back" in events()), Choice("resume", run))
    assert result.reason == "paused"
    assert events().count("rolled_back") == 1
    assert not (run.path / "bad_batches").exists()
    newest = latest(run.checkpoints)
    assert result.step == (0 if newest is None else newest.progress.step)
