"""What a run goes on with."""

from pathlib import Path

import pytest

from ml_playground.core.course import PLAIN, Course, RollBack, Split
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.values import Progress
from ml_playground.training.checkpoint_protocols import Snapshot
from ml_playground.training.guard import cut_of
from ml_playground.training.loop import Start, WentBack
from ml_playground.training.restoring import ended_before, going_on, guard_of
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
    assert guard_of(tiny_job(tmp_path), None, [], [], None).course == PLAIN


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
