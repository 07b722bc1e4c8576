"""How fast, and how long still."""

import pytest

from ml_playground.training.hooks.pace import Pace
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.hooks import event


def test_pace_before_readings_knows_nothing() -> None:
    """A guess would be worse than no number."""
    pace = Pace(FixedClock(), 60)
    pace.update(event(1))
    assert pace.targets_per_s is None
    assert pace.eta_s(1) is None


def test_targets_per_s_equal_readings_gives_that_number_from_the_first_on() -> None:
    """Smoothing must not begin at zero."""
    pace = Pace(FixedClock(), 60)
    for step in range(1, 4):
        pace.update(event(step, [3.0], targets_per_s=100.0))
        assert pace.targets_per_s == pytest.approx(100.0)


def test_targets_per_s_one_odd_reading_moves_it_a_little() -> None:
    """One hiccup of the machine is no news."""
    pace = Pace(FixedClock(), 60)
    for _ in range(30):
        pace.update(event(1, [3.0], targets_per_s=100.0))
    pace.update(event(1, [3.0], targets_per_s=0.0))
    assert 85 < (pace.targets_per_s or 0) < 95


def test_eta_steps_take_equally_long_is_exact_and_leaves_out_the_first() -> None:
    """The first interval holds the compilation, which does not come again."""
    clock = FixedClock()
    pace = Pace(clock, 60)
    clock.advance(300)
    pace.update(event(10, [3.0]))
    assert pace.eta_s(10) is None
    clock.advance(20)
    pace.update(event(20, [3.0]))
    assert pace.eta_s(20) == pytest.approx(80)
    assert pace.eta_s(70) == 0
