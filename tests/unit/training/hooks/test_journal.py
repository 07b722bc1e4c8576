"""Wishes from outside, obeyed again at the same steps."""

from pathlib import Path

import pytest

from ml_playground.core.atomic import append_lines, read_lines
from ml_playground.core.course import RollBack, Split
from ml_playground.core.error_handling import RunError
from ml_playground.core.values import NOTHING, Action, Wish
from ml_playground.training.hooks.journal import EventJournal
from ml_playground.training.hooks.jsonl_metrics import build
from ml_playground.training.settings import JsonlMetrics
from tests.fakes.hooks import hook_context, progress


def test_recorded_by_an_earlier_process_is_what_changes_numbers(tmp_path: Path) -> None:
    """The factor and the evaluation are obeyed again; to pause or save was meant for the process that was asked."""
    context = hook_context(tmp_path)
    first = EventJournal(context.run, context.clock)
    first.record(3, Wish(Action.EVALUATE | Action.SAVE, 0.5))
    first.record(5, Wish(Action.PAUSE))
    build(JsonlMetrics(), context).on_saved(progress(5), "a 'wish' that is none")
    later = EventJournal(context.run, context.clock)
    assert later.recorded(3) == Wish(Action.EVALUATE, 0.5)
    assert later.recorded(5) == NOTHING
    assert later.recorded(4) == NOTHING


def test_recorded_twice_at_a_step_joins_them_in_order(tmp_path: Path) -> None:
    """Where both name a factor, the later one counts, as it did then."""
    context = hook_context(tmp_path)
    journal = EventJournal(context.run, context.clock)
    journal.record(3, Wish(Action.EVALUATE, 0.5))
    journal.record(3, Wish(lr_factor=0.25))
    assert EventJournal(context.run, context.clock).recorded(3) == Wish(Action.EVALUATE, 0.25)


def test_record_nothing_writes_nothing(tmp_path: Path) -> None:
    """Nearly every step wishes nothing."""
    context = hook_context(tmp_path)
    EventJournal(context.run, context.clock).record(3, NOTHING)
    assert read_lines(context.run.events) == []


def test_journal_wish_of_another_version_is_refused_with_its_line(tmp_path: Path) -> None:
    """To pass over a wish in silence would make the resumed run another run."""
    context = hook_context(tmp_path)
    append_lines(context.run.events, ['{"kind": "started"}', '{"kind": "wish", "schema_version": 2}'])
    with pytest.raises(RunError, match=r"events\.jsonl, line 2 is no event .*; remove the line .* --fresh"):
        EventJournal(context.run, context.clock)


def test_journal_remembers_what_was_undone_and_split_in_its_order(tmp_path: Path) -> None:
    """A resumed run goes on without the same batches, and splits from the same steps."""
    context = hook_context(tmp_path)
    first = EventJournal(context.run, context.clock)
    undone = [RollBack(step=step, batches=(step, step + 1), why="nan", cut="a") for step in (9, 4)]
    split = Split(phase="evaluation", step=3, parts=4, cut="a")
    for one in undone:
        first.note("rolled_back", one.step, **one.model_dump(mode="json"))
    first.note("split", 3, **split.model_dump(mode="json"), problem="out of memory")
    later = EventJournal(context.run, context.clock)
    assert later.roll_backs == undone
    assert later.splits == [split]


@pytest.mark.parametrize("kind", ["rolled_back", "split"])
def test_journal_course_that_cannot_be_read_is_refused_with_its_line(kind: str, tmp_path: Path) -> None:
    """Without it the resumed run would be another run."""
    context = hook_context(tmp_path)
    EventJournal(context.run, context.clock).note(kind, 3, step=-1, batches="all")
    with pytest.raises(RunError, match=r"events\.jsonl, line 1 is no event .*; remove the line .* --fresh"):
        EventJournal(context.run, context.clock)


def test_journal_reads_events_as_what_they_are(tmp_path: Path) -> None:
    """The words of a wish in the data of another event are no wish, and a wish written in another way is one."""
    context = hook_context(tmp_path)
    head = '"schema_version": 1, "time": "2026-01-02T03:04:05Z"'
    lines = [
        f'{{"kind": "wi\\u0073h", {head}, "step": 4, "data": {{"lr_factor": 0.5}}}}',
        f'{{{head}, "step": 5, "kind": "failed", "data": {{"error": "no \\"wish\\" here", "kind": "wish"}}}}',
        f'{{"data": {{"lr_factor": 0.25}}, "step": 6, {head}, "kind":\t"wish"}}',
        '{"kind": "of a later version", "wish": {"split": "rolled_back"}, "schema_version": 9}',
    ]
    append_lines(context.run.events, lines)
    journal = EventJournal(context.run, context.clock)
    assert [journal.recorded(step).lr_factor for step in (4, 5, 6)] == [0.5, None, 0.25]
    assert (journal.last_step, journal.roll_backs, journal.splits) == (6, [], [])


@pytest.mark.parametrize("line", ["", "{", "[1]", "null", "damaged"])
def test_journal_line_that_is_no_event_may_have_been_a_wish(line: str, tmp_path: Path) -> None:
    """Nobody can tell, so its user decides."""
    context = hook_context(tmp_path)
    append_lines(context.run.events, [line])
    with pytest.raises(RunError, match=r"events\.jsonl, line 1 is no event .*may be one that the run depends on"):
        EventJournal(context.run, context.clock)
