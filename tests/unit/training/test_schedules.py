"""The laws of the schedules: where they begin, peak, and end."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.families import SCHEDULES
from ml_playground.core.registry import load_object
from ml_playground.training.optim.schedules import (
    one_cycle,
    warmup_constant,
    warmup_cosine,
    warmup_linear,
    warmup_stable_decay,
)
from ml_playground.training.settings import OneCycle, WarmupConstant, WarmupCosine, WarmupLinear, WarmupStableDecay

KINDS = sorted(SCHEDULES)


def build(kind: str, max_steps: int, **settings: float):
    row = SCHEDULES[kind]
    return load_object(row.build)(load_object(row.settings)(kind=kind, **settings), max_steps)


@pytest.mark.parametrize("kind", KINDS)
@given(max_steps=st.integers(1, 500), warmup=st.integers(0, 500))
def test_every_schedule_any_lengths_stays_between_nothing_and_the_peak(kind: str, max_steps: int, warmup: int) -> None:
    """A factor outside (0, 1] would move weights backwards or past the peak."""
    factor_at = build(kind, max_steps, warmup_steps=min(warmup, max_steps))
    assert all(0 < factor_at(step) <= 1 for step in range(max_steps))


@pytest.mark.parametrize("kind", KINDS)
def test_every_schedule_first_step_already_moves(kind: str) -> None:
    """A first step of zero would be a wasted step."""
    assert build(kind, 100, warmup_steps=10)(0) == pytest.approx(0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_schedule_end_of_warmup_is_the_peak(kind: str) -> None:
    """The last warm-up step and the one after are both at the peak."""
    factor_at = build(kind, 100, warmup_steps=10)
    assert (factor_at(9), factor_at(10)) == (1.0, pytest.approx(1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_every_schedule_without_warmup_starts_at_the_peak(kind: str) -> None:
    """No warm-up means none."""
    assert build(kind, 100, warmup_steps=0)(0) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
@given(max_steps=st.integers(20, 300))
def test_every_schedule_after_warmup_never_rises(kind: str, max_steps: int) -> None:
    """Down or flat, never up again."""
    factor_at = build(kind, max_steps, warmup_steps=10)
    values = [factor_at(step) for step in range(9, max_steps)]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(values))


def test_cosine_end_of_run_touches_the_floor() -> None:
    """One step after the last would be the floor itself."""
    assert warmup_cosine(WarmupCosine(warmup_steps=0, floor=0.1), 100)(100) == pytest.approx(0.1)


def test_cosine_halfway_is_the_middle_of_peak_and_floor() -> None:
    """Half a cosine is at its middle halfway."""
    assert warmup_cosine(WarmupCosine(warmup_steps=0, floor=0.2), 100)(50) == pytest.approx(0.6)


def test_linear_halfway_is_the_middle_of_peak_and_floor() -> None:
    """A straight line."""
    assert warmup_linear(WarmupLinear(warmup_steps=0, floor=0.5), 100)(50) == pytest.approx(0.75)


def test_one_cycle_at_its_first_step_its_peak_and_its_last_step() -> None:
    """Up in a line over three tenths; halfway down half the peak; to nearly nothing one step after the last."""
    factor_at = one_cycle(OneCycle(), 1000)
    assert [factor_at(step) for step in (0, 149, 299, 300, 650, 1000)] == pytest.approx(
        [1 / 300, 0.5, 1, 1, 0.5, 4e-6], rel=1e-4
    )
    assert 4e-6 < factor_at(999) < 1e-5


@pytest.mark.parametrize("max_steps", [2, 100, 10_000])
def test_one_cycle_is_never_shortened(max_steps: int) -> None:
    """Its way up is a share of the run, of which nobody need be told."""
    assert not OneCycle().shortened(max_steps)
    assert WarmupCosine().shortened(max_steps) == (max_steps < 1000)


def test_constant_last_step_is_the_peak() -> None:
    """Flat to the end."""
    assert warmup_constant(WarmupConstant(warmup_steps=5), 100)(99) == 1.0


def test_stable_decay_is_flat_then_a_line_to_the_floor() -> None:
    """The last fifth goes down."""
    factor_at = warmup_stable_decay(WarmupStableDecay(warmup_steps=10, decay_fraction=0.2, floor=0.0), 100)
    assert [factor_at(step) for step in (10, 79, 80, 90, 99)] == pytest.approx([1, 1, 1, 0.5, 0.05])


def test_stable_decay_without_decay_stays_at_the_peak() -> None:
    """A fraction of nothing is nothing."""
    assert warmup_stable_decay(WarmupStableDecay(warmup_steps=0, decay_fraction=0.0), 10)(9) == 1.0


def test_stable_decay_warmup_into_the_decay_peaks_first() -> None:
    """A warm-up that reaches into the decay is finished first."""
    factor_at = warmup_stable_decay(WarmupStableDecay(warmup_steps=8, decay_fraction=0.5), 10)
    assert factor_at(7) == 1.0 and factor_at(8) == 1.0 and factor_at(9) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", KINDS)
@given(max_steps=st.integers(1, 3000))
def test_every_schedule_as_it_comes_warms_up_as_if_its_user_had_said_the_number(kind: str, max_steps: int) -> None:
    """The usual warm-up, in a short run a tenth; one cycle goes up for three tenths of any run."""
    steps = round(0.3 * max_steps) if kind == "one_cycle" else min(100, max_steps // 10)
    as_it_comes, said = build(kind, max_steps), build(kind, max_steps, warmup_steps=steps)
    assert [as_it_comes(step) for step in range(max_steps)] == [said(step) for step in range(max_steps)]
