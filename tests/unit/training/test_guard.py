"""Which steps are bad, which batches are left out, and when a run gives up."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.models import TrainSettings
from ml_playground.core.course import PLAIN, Course, RollBack, Split
from ml_playground.training.guard import NEAR_STEPS, BadStep, Guard, cut_of, remaining, tries_of
from ml_playground.training.hook_protocols import StepReading
from ml_playground.training.spikes import WINDOW
from tests.fakes.tiny_job import tiny_job


def guard(course: Course = PLAIN, cut: str = "a", **settings: Any) -> Guard:
    """A guard of a run whose steps take two micro-batches."""
    return Guard(TrainSettings(max_steps=1000, **({"micro_batches_per_step": 2} | settings)), cut, course)


def readings(losses: Sequence[float], first_step: int = 1) -> list[StepReading]:
    """Steps with these losses."""
    return [StepReading(first_step + place, loss, 0.5, 0.1, 8.0) for place, loss in enumerate(losses)]


@given(st.integers(0, 60), st.sets(st.integers(0, 80), max_size=12))
def test_remaining_is_the_nth_of_those_not_set_aside(position: int, set_aside: set[int]) -> None:
    """Against the plain list of numbers."""
    left = [number for number in range(200) if number not in set_aside]
    assert remaining(position, sorted(set_aside)) == left[position]


def test_undo_sets_the_step_s_micro_batches_aside() -> None:
    """Step 3 takes numbers 4 and 5; after that it takes 6 and 7, and all later steps move up."""
    one = guard()
    assert one.undo(BadStep(3, "why", "roll_back")) == RollBack(step=3, batches=(4, 5), why="why", cut="a")
    assert [one.batch_number(position) for position in range(8)] == [0, 1, 2, 3, 6, 7, 8, 9]
    assert one.undo(BadStep(3, "why", "roll_back")).batches == (6, 7)
    assert one.undo(BadStep(2, "why", "roll_back")).batches == (2, 3)
    assert [one.batch_number(position) for position in range(6)] == [0, 1, 8, 9, 10, 11]


@given(st.lists(st.integers(1, 40), max_size=8))
def test_undone_steps_never_share_a_batch(steps: list[int]) -> None:
    """What was set aside is not met again, so no roll-back repeats another."""
    one = guard()
    numbers = [number for step in steps for number in one.undo(BadStep(step, "", "roll_back")).batches]
    assert len(numbers) == len(set(numbers))


def test_judge_good_steps_finds_nothing() -> None:
    """Nearly all of them are."""
    assert guard().judge(readings([2.0, 1.9, 1.8])) == []


@pytest.mark.parametrize(
    ("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)], ids=str
)
def test_judge_number_that_is_not_finite_is_bad(loss: float, norm: float) -> None:
    """Loss or gradient, NaN or infinite; the steps after it are not judged."""
    bad = StepReading(2, loss, norm, 0.1, 8.0)
    found = guard().judge([*readings([1.0]), bad, *readings([math.nan], 3)])
    assert found == [BadStep(2, f"the loss was {loss:g} and the gradient norm {norm:g}", "roll_back")]


@given(
    st.lists(st.sampled_from([1.0, 2.0, math.nan]), max_size=30), st.lists(st.integers(1, 6), min_size=30), st.data()
)
def test_judge_does_not_depend_on_when_steps_are_read(
    losses: list[float], sizes: list[int], data: st.DataObject
) -> None:
    """All at once, in pieces, or with the state saved and restored in between: the same steps are bad."""
    settings: dict[str, Any] = {"on_bad_step": "skip", "bad_step_tries": 5}
    rows = readings(losses)
    whole = guard(**settings)
    expected = whole.judge(rows)
    pieces, found = guard(**settings), list[BadStep]()
    for size in sizes:
        found += pieces.judge(rows[:size])
        if found and found[-1].remedy == "stop":
            break
        rows = rows[size:]
        if data.draw(st.booleans()):
            pieces = guard(Course.model_validate_json(pieces.course.model_dump_json()), **settings)
    assert found == expected
    assert pieces.course == whole.course


def test_judge_skipping_gives_up_after_tries_in_a_row() -> None:
    """A good step between them begins anew."""
    found = guard(on_bad_step="skip", bad_step_tries=2).judge(
        readings([math.nan, math.nan, 1.0, math.nan, math.nan, math.nan, math.nan])
    )
    assert [(bad.step, bad.remedy, bad.tried) for bad in found] == [
        (1, "skipped", 0), (2, "skipped", 0), (4, "skipped", 0), (5, "skipped", 0), (6, "stop", 2),
    ]  # fmt: skip


def test_judge_rolling_back_gives_up_after_tries_without_getting_beyond() -> None:
    """Each of three roll-backs ends where the one before did."""
    one = guard(bad_step_tries=3)
    for _ in range(3):
        (bad,) = one.judge(readings([math.nan], 7))
        assert bad.remedy == "roll_back"
        one.undo(bad)
    (bad,) = one.judge(readings([math.nan], 8))
    assert (bad.remedy, bad.tried) == ("stop", 3)


@given(st.lists(st.integers(0, 2 * NEAR_STEPS), min_size=1, max_size=9))
def test_tries_of_counts_the_newest_without_a_gap(gaps: list[int]) -> None:
    """Against the plain reading: how many gaps, from the newest backwards, are short."""
    steps = [1000 + sum(gaps[: number + 1]) for number in range(len(gaps))]
    short = [gap < NEAR_STEPS for gap in reversed(gaps[1:])]
    assert tries_of(steps[-1], steps[:-1]) == (short.index(False) if False in short else len(short))


def test_judge_spike_is_bad_and_leaves_the_level_where_it_was() -> None:
    """What was judged bad is no measure for what follows."""
    one = guard(spike_factor=10.0)
    one.judge(readings([2.0 + 0.001 * (step % 5) for step in range(WINDOW)]))
    (bad,) = one.judge(readings([9.0], WINDOW + 1))
    assert bad == BadStep(
        WINDOW + 1, "the loss was 9, above 2.202, the level of a spike (train.spike_factor = 10)", "roll_back"
    )
    assert 9.0 not in one.course.losses
    assert one.judge(readings([2.1], WINDOW + 1)) == []


def test_judge_without_a_factor_keeps_no_losses() -> None:
    """A checkpoint carries what is needed, and no more."""
    one = guard()
    one.judge(readings([2.0] * 70))
    assert one.course == PLAIN


def test_parts_double_from_their_step_on_each_phase_by_itself() -> None:
    """Training is split by its own need, an evaluation by its own."""
    one = guard()
    one.split("training", 5)
    one.split("training", 9)
    one.split("evaluation", 6)
    assert [one.parts("training", step) for step in (4, 5, 8, 9, 99)] == [1, 2, 2, 4, 4]
    assert [one.parts("evaluation", step) for step in (5, 6, 99)] == [1, 2, 2]


def test_course_of_another_cut_is_left_out() -> None:
    """Batch 7 of four rows is not batch 7 of eight."""
    course = Course(
        roll_backs=(
            RollBack(step=1, batches=(0, 1), why="", cut="b"),
            RollBack(step=2, batches=(2, 3), why="", cut="a"),
        ),
        splits=(Split(phase="training", step=1, parts=2, cut="b"),),
    )
    one = guard(course)
    assert [undone.cut for undone in one.course.roll_backs] == ["a"]
    assert one.parts("training", 5) == 1
    assert [one.batch_number(position) for position in range(4)] == [0, 1, 4, 5]


def test_facts_say_what_is_not_as_it_was_begun() -> None:
    """A user who comes back sees it in the first line."""
    one = guard()
    assert one.facts == {}
    one.undo(BadStep(3, "", "roll_back"))
    one.split("training", 1200)
    assert one.facts == {
        "set aside": "2 micro-batches of bad steps",
        "micro-batches": "in 2 parts from step 1,200 on",
    }
    single = guard(micro_batches_per_step=1)
    single.undo(BadStep(3, "", "roll_back"))
    assert single.facts == {"set aside": "1 micro-batch of bad steps"}


def test_cut_of_is_that_of_the_data_and_the_seed(tmp_path: Path) -> None:
    """Rows, length, order and seed decide what a batch number means; a learning rate does not."""
    plain = cut_of(tiny_job(tmp_path))
    assert cut_of(tiny_job(tmp_path, optimizer={"lr": 0.5}, train={"max_steps": 9})) == plain
    others = [{"data": {"micro_batch_rows": 2}}, {"data": {"order": "sequential"}}, {"seed": 8}]
    assert len({plain, *(cut_of(tiny_job(tmp_path, **other)) for other in others)}) == 4
