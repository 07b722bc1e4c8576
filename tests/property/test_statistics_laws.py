"""Laws of intervals, of paired comparisons and of calibration."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.evaluation.calibration import calibration_of
from ml_playground.evaluation.intervals import mean_of, share_of
from ml_playground.evaluation.paired import mcnemar_p, p_text

NUMBERS = st.floats(-100, 100, allow_subnormal=False)
ITEMS = st.lists(st.tuples(NUMBERS, st.floats(0.1, 50)), min_size=1, max_size=30)
ANSWERS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@given(ITEMS, st.integers(0, 99))
def test_mean_of_lies_in_its_interval_and_that_among_the_items(items: list[tuple[float, float]], seed: int) -> None:
    """A sample of items drawn again has no mean beyond the extreme quotients."""
    totals, counts = zip(*items, strict=True)
    found = mean_of(totals, counts, seed=seed, resamples=50)
    quotients = [total / count for total, count in items]
    slack = 1e-9 * max(1.0, *map(abs, quotients))
    assert min(quotients) - slack <= found.low <= found.value <= found.high <= max(quotients) + slack
    assert found.value == pytest.approx(sum(totals) / sum(counts))
    assert found == mean_of(totals, counts, seed=seed, resamples=50)


@given(ITEMS, st.floats(0.5, 4), NUMBERS)
def test_mean_of_moves_with_its_numbers(items: list[tuple[float, float]], factor: float, shift: float) -> None:
    """Other units, or a constant for each target, change the interval as they change the value."""
    totals, counts = (np.array(one) for one in zip(*items, strict=True))
    plain = mean_of(totals, counts, seed=1, resamples=50)
    moved = mean_of(factor * totals + shift * counts, counts, seed=1, resamples=50)
    assert moved == pytest.approx([factor * one + shift for one in plain], rel=1e-6, abs=1e-6)


def test_mean_of_items_without_a_count_have_no_say() -> None:
    """A row without targets has no loss; a sample of such rows alone has no mean."""
    found = mean_of([3.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], seed=0)
    assert found == (3.0, 3.0, 3.0)


def test_mean_of_many_items_is_drawn_in_parts_with_the_same_seed() -> None:
    """An interval is as narrow as the normal one: 1.96 deviations of the mean."""
    numbers = np.random.default_rng(0).normal(5.0, 2.0, size=5000)
    found = mean_of(numbers, np.ones(5000), seed=0)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 2 / math.sqrt(5000), rel=0.1)


@pytest.mark.parametrize("kind", ["mean", "share"])
def test_interval_holds_the_true_value_as_often_as_it_says(kind: str) -> None:
    """Of 300 experiments with 60 items each, 95 in a hundred; the bootstrap is known to hold a little less often."""
    generator = np.random.default_rng(7)
    held = 0
    for number in range(300):
        if kind == "mean":
            counts = generator.integers(1, 9, size=60)
            found = mean_of(generator.exponential(counts), counts, seed=number, resamples=300)
            held += found.low <= 1.0 <= found.high
        else:
            found = share_of(int(generator.binomial(60, 0.9)), 60)
            held += found.low <= 0.9 <= found.high
    assert 0.89 <= held / 300 <= 0.99


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_p_is_a_probability_that_falls_with_the_difference(one: int, other: int) -> None:
    """Which model is which does not matter; of as many uneven questions a greater difference is less probable."""
    p = mcnemar_p(one, other)
    assert 0 < p <= 1
    assert p == mcnemar_p(other, one)
    if one > other > 0:
        assert mcnemar_p(one + 1, other - 1) < p or p == 1.0
    if abs(one - other) <= 1:
        assert p == 1.0


@pytest.mark.parametrize(
    ("one", "other", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (10, 2, 0.03857421875), (1, 1, 1.0), (15, 5, 0.04138946533)]
)
def test_mcnemar_p_known_values(one: int, other: int, p: float) -> None:
    """Twice the tail of a fair coin, as tables have it."""
    assert mcnemar_p(one, other) == pytest.approx(p, rel=1e-6)


def test_mcnemar_p_of_many_questions_neither_overflows_nor_takes_long() -> None:
    """Exact integers; the probability is too small for a float, or it is not."""
    assert mcnemar_p(20_000, 10_000) == 0.0
    assert 0.1 < mcnemar_p(10_100, 10_000) < 1.0


@pytest.mark.parametrize(
    ("p", "text"), [(1.0, "p = 1.000"), (0.0123, "p = 0.013"), (0.001, "p = 0.001"), (0.0009, "p < 0.001")]
)
def test_p_text_claims_no_less_than_was_found(p: float, text: str) -> None:
    """Rounded up, never down."""
    assert p_text(p) == text


@given(ANSWERS, st.integers(1, 20))
def test_calibration_error_is_bounded_by_the_overall_gap_and_by_one(
    answers: list[tuple[float, bool]], bins: int
) -> None:
    """Gaps of bins may cancel in the whole, never the other way round."""
    probabilities, right = zip(*answers, strict=True)
    found = calibration_of(probabilities, right, bins=bins)
    gap = abs(sum(probabilities) - sum(right)) / len(right)
    assert gap - 1e-12 <= found.error.value <= 1 + 1e-12
    assert sum(one.answers for one in found.bins) == len(answers)
    assert all(one.low <= one.confidence + 1e-12 and one.confidence <= one.high + 1e-12 for one in found.bins)
    assert calibration_of(probabilities, right, bins=1).error.value == pytest.approx(gap)


def test_calibration_known_values() -> None:
    """As often right as it is sure: no error; always wrong and always sure: all of it."""
    assert calibration_of([0.75] * 4, [True, True, True, False]).error.value == 0.0
    assert calibration_of([1.0] * 3, [False] * 3).error.value == 1.0
    assert calibration_of([0.05, 0.95], [True, False]).error.value == pytest.approx(0.95)


@given(ANSWERS, st.integers(0, 5))
def test_calibration_interval_holds_its_error_and_comes_again(answers: list[tuple[float, bool]], seed: int) -> None:
    """Between 0 and 1, and equal for an equal seed."""
    probabilities, right = zip(*answers, strict=True)
    found = calibration_of(probabilities, right, seed=seed).error
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert calibration_of(probabilities, right, seed=seed).error == found


@pytest.mark.parametrize(("answers", "least"), [(20, 94), (40, 94), (400, 94)])
@pytest.mark.parametrize("overconfident", [0.0, 0.2])
def test_calibration_interval_holds_the_true_error_as_often_as_it_says(
    answers: int, least: int, overconfident: float
) -> None:
    """Of a model that is exactly as sure as it is right, and of one that is a fifth too sure, of few answers and of many."""
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(100):
        probabilities = generator.uniform(overconfident, 1, answers)
        right = generator.random(answers) < probabilities - overconfident
        found = calibration_of(probabilities.tolist(), right.tolist(), seed=seed).error
        held += found.low <= overconfident <= found.high
    assert held >= least


@pytest.mark.parametrize("answers", [20, 100])
@pytest.mark.parametrize(("sure", "right"), [(0.999, 0.97), (0.02, 0.08)])
def test_calibration_interval_holds_where_nearly_all_answers_end_alike(answers: int, sure: float, right: float) -> None:
    """Twenty right answers of a model that is always sure do not prove that it never errs: a bootstrap alone holds half of them."""
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(100):
        given = (generator.random(answers) < right).tolist()
        found = calibration_of([sure] * answers, given, seed=seed).error
        held += found.low <= abs(sure - right) <= found.high
    assert held >= 94
