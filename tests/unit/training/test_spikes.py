"""When a loss is a spike."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.training.spikes import WINDOW, spike_level

losses = st.lists(st.floats(0.5, 12.0), min_size=WINDOW, max_size=WINDOW)
factors = st.floats(0.5, 30.0)


def level(recent: list[float], factor: float) -> float:
    """The level, which is known."""
    found = spike_level(recent, factor)
    assert found is not None
    return found


@given(losses, factors)
def test_spike_level_is_never_below_the_median(recent: list[float], factor: float) -> None:
    """Half of the losses of a run are no spikes, whatever they are."""
    assert sum(loss > level(recent, factor) for loss in recent) <= WINDOW / 2


@given(losses, factors, st.randoms())
def test_spike_level_does_not_depend_on_the_order(recent: list[float], factor: float, order: random.Random) -> None:
    """Only on which losses they were."""
    assert level(order.sample(recent, WINDOW), factor) == level(recent, factor)


@given(losses, factors, st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_spike_level_scales_with_the_losses(recent: list[float], factor: float, scale: float) -> None:
    """Nats or bits: the same steps are spikes."""
    assert level([scale * loss for loss in recent], factor) == pytest.approx(scale * level(recent, factor), rel=1e-12)


@given(losses, factors, factors)
def test_spike_level_grows_with_the_factor(recent: list[float], one: float, other: float) -> None:
    """A more careful factor finds no spike that a less careful one does not."""
    low, high = sorted((one, other))
    assert level(recent, low) <= level(recent, high)


@given(st.lists(st.floats(2.0, 3.0), min_size=WINDOW, max_size=WINDOW), st.integers(0, WINDOW // 2 - 1), factors)
def test_spike_level_withstands_wild_losses(recent: list[float], wild: int, factor: float) -> None:
    """Nearly half of the losses may be anything: the level stays within what the others allow."""
    spoilt = [1e9] * wild + recent[wild:]
    assert level(spoilt, factor) <= 3.0 + factor * 1.4826 * 1.0


@given(st.lists(st.floats(0.1, 9.0), max_size=WINDOW - 1), factors)
def test_spike_level_is_unknown_until_enough_losses_are_known(recent: list[float], factor: float) -> None:
    """The first steps of a run fall too fast to be judged."""
    assert spike_level(recent, factor) is None


def test_spike_level_of_losses_that_hardly_differ_leaves_room_for_rounding() -> None:
    """A hundredth of the level counts as spread at least."""
    assert level([2.0] * WINDOW, 10.0) == pytest.approx(2.2)


def test_spike_level_of_normal_losses_is_median_and_standard_deviations() -> None:
    """The factor means what a reader of statistics expects."""
    draws = random.Random(1)
    levels = [level([draws.gauss(4.0, 0.3) for _ in range(WINDOW)], 10.0) for _ in range(200)]
    assert math.fsum(levels) / 200 == pytest.approx(4.0 + 10 * 0.3, abs=0.1)
