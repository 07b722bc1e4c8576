"""What a run reads of its own past may have been written by somebody else: it is refused in words, or passed over."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ml_playground.core.atomic import append_lines
from ml_playground.core.checkpoint_format import CheckpointFolder
from ml_playground.core.error_handling import CheckpointError, RunError
from ml_playground.core.values import NOTHING, Progress
from ml_playground.training.building import build_hooks
from ml_playground.training.hooks.control import ControlHook
from ml_playground.training.hooks.journal import EventJournal
from ml_playground.training.resume import finished_result, read_job
from ml_playground.training.settings import Control
from tests.fakes.hooks import Told, event, hook_context
from tests.fakes.tiny_job import tiny_job

EACH_STEP = Control(every_seconds=0)


@pytest.mark.parametrize(
    "data",
    [
        {"lr_factor": "x"},
        {"lr_factor": -0.5},
        {"lr_factor": float("nan")},
        {"lr_factor": float("inf")},
        {"actions": 3},
        {"actions": "EVALUATE"},
        {"actions": [["EVALUATE"]]},
    ],
    ids=str,
)
def test_journal_wish_that_nobody_could_have_wished_is_refused_with_its_line(data: Any, tmp_path: Path) -> None:
    """It would be multiplied with the learning rate of a resumed run."""
    context = hook_context(tmp_path)
    row = {"time": "2026-01-02T03:04:05Z", "step": 3, "kind": "wish", "data": data}
    append_lines(context.run.events, [json.dumps(row)])
    with pytest.raises(RunError, match=r"events\.jsonl, line 1 is no event .*; remove the line .* --fresh"):
        EventJournal(context.run, context.clock)


def test_control_pipe_or_huge_file_among_the_requests_does_not_hold_the_training_up(tmp_path: Path) -> None:
    """A pipe would be waited for at the next step, without end."""
    context = hook_context(tmp_path)
    context.run.control.mkdir()
    os.mkfifo(context.run.control / "1.json")
    (context.run.control / "2.json").touch()
    os.truncate(context.run.control / "2.json", 1 << 40)
    told = Told()
    assert ControlHook(EACH_STEP, context, told).on_step(event(1)) == NOTHING
    assert ["it is a pipe or a device" in told[0], "at most 65536 are read" in told[1]] == [True, True]


@pytest.mark.parametrize("name", ["config", "result"])
def test_run_file_that_is_a_pipe_is_refused_in_words(name: str, tmp_path: Path) -> None:
    """Whoever starts a run looks into all runs of its experiment."""
    run = hook_context(tmp_path).run
    os.mkfifo(getattr(run, name))
    with pytest.raises(RunError, match=rf"{name}\.json cannot be read: it is a pipe or a device"):
        read_job(run) if name == "config" else finished_result(run)


def checkpoint_of(folder: Path, hooks: Any, config: Any) -> CheckpointFolder:
    """One of which only what hooks remember is there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hooks.json").write_text(json.dumps(hooks))
    (folder / "config.json").write_text(json.dumps(config))
    return CheckpointFolder(folder, Progress(1, 2, 0.0, 0.0, 0.0), None, 1.0, "f", ())


STOPPING = {"hooks": {"stop": {"kind": "early_stopping"}}}


@pytest.mark.parametrize(
    ("hooks", "config", "message"),
    [
        ({"stop": {"misses": []}}, STOPPING, "What the hook 'stop' remembered in .* is not what it writes"),
        ({"stop": {"lowest": 1.0}}, STOPPING, "What the hook 'stop' remembered in .* is not what it writes"),
        ({"stop": 3}, STOPPING, r"hooks\.json holds no table for 'stop'"),
        ({}, [1], "The job in .* cannot be read"),
    ],
)
def test_build_hooks_memory_of_another_form_is_refused(hooks: Any, config: Any, message: str, tmp_path: Path) -> None:
    """A rule to stop that counts from what a stranger wrote is no rule of this run."""
    job = tiny_job(tmp_path, hooks={"stop": {"kind": "early_stopping"}})
    with pytest.raises(CheckpointError, match=message):
        build_hooks(job, hook_context(tmp_path), checkpoint_of(tmp_path / "checkpoint", hooks, config))


@pytest.mark.parametrize(
    "hooks", [None, 3, [], {"stop": 3}, {"stop": {}}, {"stop": {"kind": ["early_stopping"]}}], ids=str
)
def test_build_hooks_of_another_kind_before_begin_anew(hooks: Any, tmp_path: Path) -> None:
    """Whatever stands where the recorded hooks should: what it remembered is nobody's."""
    job = tiny_job(tmp_path, hooks={"stop": {"kind": "early_stopping"}})
    state = {"stop": {"misses": 7, "lowest": 1.0, "mean": 1.0}}
    built = build_hooks(job, hook_context(tmp_path), checkpoint_of(tmp_path / "checkpoint", state, {"hooks": hooks}))
    assert built["stop"].state_dict()["misses"] == 0
