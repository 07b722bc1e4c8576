"""Curves for the screen."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.monitoring.curves import smoothed, thinned
from ml_playground.monitoring.reader import Curve

VALUES = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=200)


def curve_of(values: list[float]) -> Curve:
    """Steps 1, 2, 3, ..."""
    return Curve(list(range(1, len(values) + 1)), values)


@given(values=VALUES, points=st.integers(2, 50))
def test_thinned_any_curve_keeps_extremes_order_and_the_limit(values: list[float], points: int) -> None:
    """No spike is lost, no point is made up, and there are never more than asked for."""
    curve = curve_of(values)
    thin = thinned(curve, points)
    assert len(thin.steps) <= max(points, 2)
    assert thin.steps == sorted(set(thin.steps))
    assert all(
        value == curve.values[step - 1] or math.isnan(value)
        for step, value in zip(thin.steps, thin.values, strict=True)
    )
    numbers = [value for value in values if not math.isnan(value)]
    kept = [value for value in thin.values if not math.isnan(value)]
    assert (min(kept, default=None), max(kept, default=None)) == (
        min(numbers, default=None),
        max(numbers, default=None),
    )


@given(values=VALUES, window=st.floats(0, 50))
def test_smoothed_any_curve_stays_within_its_values_and_drops_what_is_no_number(
    values: list[float], window: float
) -> None:
    """A mean lies between the lowest and the highest."""
    numbers = [value for value in values if not math.isnan(value)]
    smooth = smoothed(curve_of(values), window)
    assert len(smooth.values) == len(numbers)
    slack = 1e-9 * max((abs(value) for value in numbers), default=0)
    assert all(min(numbers) - slack <= value <= max(numbers) + slack for value in smooth.values)


def test_smoothed_straight_line_stays_in_its_place() -> None:
    """A mean over the past alone would lag by the window; in the middle, looking both ways does not."""
    smooth = smoothed(curve_of([float(step) for step in range(1, 402)]), 20)
    assert smooth.values[200] == pytest.approx(201, abs=0.01)


def test_smoothed_window_of_one_changes_nothing() -> None:
    """The shortest runs are shown as they are."""
    assert smoothed(curve_of([3.0, 1.0, 2.0]), 0.5).values == [3.0, 1.0, 2.0]
