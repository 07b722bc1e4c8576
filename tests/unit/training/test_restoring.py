"""What a run goes on with."""

import math
from pathlib import Path
from typing import Any

import pytest

from ml_playground.core.course import PLAIN, Course, RollBack, Split
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.values import Action, Progress
from ml_playground.training.checkpoint_protocols import Snapshot
from ml_playground.training.guard import cut_of, recipe_of
from ml_playground.training.hook_protocols import StepReading
from ml_playground.training.restoring import ended_before, going_on, guard_of, owed_by
from ml_playground.training.stretch import Start, WentBack
from tests.fakes.memory_store import MemoryStore
from tests.fakes.tiny_job import tiny_job


def test_guard_of_joins_what_checkpoint_journal_and_process_remember_each_thing_once(tmp_path: Path) -> None:
    """A full disk may have kept events from the journal; an older checkpoint knows less than the journal."""
    job = tiny_job(tmp_path)
    cut = cut_of(job)
    undone = [RollBack(step=9, batches=(number,), why="", cut=cut) for number in (8, 9, 10)]
    splits = [Split(phase="training", step=step, parts=parts, cut=cut) for step, parts in ((1, 2), (5, 4))]
    store = MemoryStore()
    course = Course(roll_backs=(undone[0],), splits=(splits[0],), losses=(1.0, 2.0))
    store.begin_save(Snapshot(Progress(4, 9, 0.1, 8.0, 3.0), {}, {}, "{}", "f", course=course))
    later = WentBack(Course(roll_backs=tuple(undone), splits=tuple(splits)), elapsed_s=9.0)
    guard = guard_of(job, store.open(4), undone[:2], splits[:1], later)
    assert guard.course.roll_backs == tuple(undone)
    assert guard.course.splits == tuple(splits)
    assert [guard.batch_number(position) for position in (7, 8)] == [7, 11]


def test_guard_of_a_run_that_begins_knows_nothing(tmp_path: Path) -> None:
    """As nearly every run."""
    job = tiny_job(tmp_path)
    assert guard_of(job, None, [], [], None).course == Course(recipe=recipe_of(job))


def bad(step: int) -> StepReading:
    """Its loss is no number."""
    return StepReading(step, math.nan, 1.0, 0.1, 8.0)


@pytest.mark.parametrize(
    ("changes", "fresh"),
    [
        ({}, False),
        ({"optimizer": {"lr": 0.002}}, True),
        ({"train": {"grad_clip": 0.5}}, True),
        ({"train": {"bad_step_tries": 2, "on_bad_step": "roll_back", "log_every_steps": 1}}, False),
        ({"checkpointing": {"every_steps": 1}, "hooks": {}}, False),
    ],
    ids=str,
)
def test_guard_of_a_branch_has_all_its_tries(tmp_path: Path, changes: dict[str, Any], fresh: bool) -> None:
    """What other settings had to undo says nothing about these; what changes nothing that is computed is no other setting."""
    rolling = {"train": {"on_bad_step": "roll_back", "bad_step_tries": 2}}
    first = guard_of(tiny_job(tmp_path, **rolling), None, [], [], None)
    for _ in range(2):
        first.undo(first.judge([bad(9)])[0])
    assert first.judge([bad(9)])[0].remedy == "stop"
    job = tiny_job(tmp_path, **rolling | {name: rolling.get(name, {}) | one for name, one in changes.items()})
    branch = guard_of(job, None, first.course.roll_backs, [], None)
    assert branch.judge([bad(9)])[0].remedy == ("roll_back" if fresh else "stop")
    # Its batches stay set aside, whatever came of it.
    assert branch.batch_number(8) == 10


def test_guard_of_a_branch_that_was_killed_counts_its_own_tries_alone(tmp_path: Path) -> None:
    """Two under the former settings and two under its own: the third start knows which are whose."""
    rolling = {"train": {"on_bad_step": "roll_back", "bad_step_tries": 2}}
    jobs = [tiny_job(tmp_path, **rolling), tiny_job(tmp_path, **rolling, optimizer={"lr": 0.002})]
    undone: list[RollBack] = []
    for job in jobs:
        for tried in range(2):
            guard = guard_of(job, None, undone, [], None)
            (found,) = guard.judge([bad(9)])
            assert (found.remedy, found.tried) == ("roll_back", 0), tried
            undone.append(guard.undo(found))
    (found,) = guard_of(jobs[1], None, undone, [], None).judge([bad(9)])
    assert (found.remedy, found.tried) == ("stop", 2)


def test_guard_of_a_branch_counts_no_steps_that_others_skipped(tmp_path: Path) -> None:
    """A checkpoint in the midst of a bad stretch remembers how long it was, and under which settings."""
    skipping = {"train": {"on_bad_step": "skip", "bad_step_tries": 2}}
    first = guard_of(tiny_job(tmp_path, **skipping), None, [], [], None)
    assert first.judge([bad(4)])[0].remedy == "skipped"
    store = MemoryStore()
    store.begin_save(Snapshot(Progress(4, 9, 0.1, 8.0, 3.0), {}, {}, "{}", "f", course=first.course))
    again = guard_of(tiny_job(tmp_path, **skipping), store.open(4), [], [], None)
    assert [found.remedy for found in again.judge([bad(5), bad(6)])] == ["skipped", "stop"]
    branch = guard_of(tiny_job(tmp_path, **skipping, optimizer={"lr": 0.002}), store.open(4), [], [], None)
    assert [found.remedy for found in branch.judge([bad(5), bad(6), bad(7)])] == ["skipped", "skipped", "stop"]


def test_going_on_after_an_undone_step_has_spent_its_seconds() -> None:
    """A time budget does not begin anew."""
    start = Start(step=4, elapsed_s=3.0)
    assert going_on(start, WentBack(PLAIN, elapsed_s=9.0)).elapsed_s == 9.0
    assert going_on(start, None) is start


def test_ended_before_job_in_the_checkpoint_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Whether the run has ended cannot be told; the checkpoint may come from elsewhere."""
    store = MemoryStore()
    store.begin_save(Snapshot(Progress(9, 9, 0.1, 8.0, 3.0), {}, {}, "{}", "f", ending="completed"))
    with pytest.raises(CheckpointError, match=r"The job in .* cannot be read \(name: Field required\); restore it"):
        ended_before(store.open(9), tiny_job(tmp_path))


@pytest.mark.parametrize(
    ("changes", "owed"),
    [
        ({}, Action.EVALUATE | Action.SAVE | Action.FINISH),
        ({"checkpointing": {"every_steps": 1}}, Action.EVALUATE | Action.SAVE | Action.FINISH),
        ({"optimizer": {"lr": 0.002}}, Action.EVALUATE | Action.SAVE),
        ({"hooks": {"time_budget": {"kind": "time_budget", "minutes": 9.0}}}, Action.EVALUATE | Action.SAVE),
    ],
    ids=str,
)
def test_owed_by_a_checkpoint_a_branch_does_not_end_for_it(
    tmp_path: Path, changes: dict[str, Any], owed: Action
) -> None:
    """A stop broke off the last evaluation of a run whose time was up; whoever gives it more time means it to go on."""
    timed: dict[str, Any] = {"hooks": {"time_budget": {"kind": "time_budget", "minutes": 1.0}}}
    store = MemoryStore()
    config = tiny_job(tmp_path, **timed).model_dump_json()
    all_of_it = Action.EVALUATE | Action.SAVE | Action.FINISH
    store.begin_save(Snapshot(Progress(9, 60, 0.1, 8.0, 3.0), {}, {}, config, "f", owed=all_of_it))
    start = Start(step=9, owed=store.open(9).owed)
    assert owed_by(start, store.open(9), tiny_job(tmp_path, **timed | changes)).owed == owed
