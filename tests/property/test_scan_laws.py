"""Laws of the linear recurrence that is computed for all tokens at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ml_playground.models.recurrent.gates import keep_and_add, positive
from ml_playground.models.recurrent.scan import doubled, scanned, swept, swept_back


def by_definition(keep: Tensor, add: Tensor) -> Tensor:
    """One token after another, as it is written on paper."""
    state, states = torch.zeros_like(add[:, 0]), []
    for at in range(add.shape[1]):
        state = keep[:, at] * state + add[:, at]
        states.append(state)
    return torch.stack(states, dim=1)


@st.composite
def recurrences(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Shares from nothing to everything, sums of both signs, in float64."""
    rows, length, width, seed = (draw(st.integers(1, most)) for most in (3, 40, 3, 1 << 30))
    generator = torch.Generator().manual_seed(seed)
    spread = draw(st.sampled_from([0.0, 1.0, 30.0, 1000.0]))
    drawn = torch.randn(rows, length, width, generator=generator, dtype=torch.float64) * spread
    return torch.sigmoid(drawn), torch.randn(rows, length, width, generator=generator, dtype=torch.float64)


@settings(max_examples=50)
@given(recurrences())
def test_scans_of_every_kind_equal_the_recurrence(drawn: tuple[Tensor, Tensor]) -> None:
    """Which way it is computed is a matter of speed alone, also where a gate is shut or open for good."""
    keep, add = drawn
    expected = by_definition(keep, add)
    for way in (scanned, swept, doubled):
        torch.testing.assert_close(way(keep, add), expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=25)
@given(recurrences(), st.integers(0, 1 << 30))
def test_gradients_of_a_scan_equal_those_of_the_recurrence(drawn: tuple[Tensor, Tensor], seed: int) -> None:
    """The way back is a recurrence of its own, and written by hand."""
    weights = torch.randn(drawn[1].shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = []
    for way in (by_definition, scanned, doubled):
        keep, add = (part.clone().requires_grad_() for part in drawn)
        (way(keep, add) * weights).sum().backward()
        found.append((torch.zeros_like(drawn[0]) if keep.grad is None else keep.grad, add.grad))
    for ours in found[1:]:
        torch.testing.assert_close(ours, found[0], rtol=1e-11, atol=1e-12)


@given(recurrences())
def test_way_back_is_the_same_token_by_token_and_by_doubling(drawn: tuple[Tensor, Tensor]) -> None:
    """A GPU takes the second way, which this machine may not have."""
    keep, grad = drawn
    later = torch.nn.functional.pad(keep[:, 1:], (0, 0, 0, 1))
    torch.testing.assert_close(
        doubled(later.flip(1), grad.flip(1)).flip(1), swept_back(keep, grad), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("gate", [-1e4, -90.0, 0.0, 90.0, 1e4])
def test_scan_of_extreme_gates_in_float32_stays_finite_and_exact(gate: float) -> None:
    """Where a logarithm would be infinite, nothing is: a shut gate keeps, an open one replaces."""
    gates = torch.full((1, 5000, 2), gate, requires_grad=True)
    candidates = torch.linspace(-3, 3, 10_000).view(1, 5000, 2).requires_grad_()
    states = scanned(*keep_and_add(gates, candidates))
    states.sum().backward()
    assert bool(torch.isfinite(states).all())
    assert all(part.grad is not None and bool(torch.isfinite(part.grad).all()) for part in (gates, candidates))
    expected = by_definition(*keep_and_add(gates.double(), candidates.double()))
    torch.testing.assert_close(states.double(), expected, rtol=1e-4, atol=1e-6)


@given(st.floats(-50, 50))
def test_positive_is_never_negative_and_continuous(x: float) -> None:
    """States stay positive, as in the paper; both pieces meet at one half."""
    at = torch.tensor([x, x + 1e-6], dtype=torch.float64)
    low, high = positive(at).tolist()
    assert 0 < low <= high
    assert high - low < 2e-6
