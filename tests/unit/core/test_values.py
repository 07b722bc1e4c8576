"""Values that cross packages."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.values import NOTHING, Action, Fates, Sum, Wish

NUMBERS = st.integers(-1000, 1000).map(float)
SUMS = st.builds(Sum, NUMBERS, NUMBERS)
WISHES = st.builds(Wish, st.sampled_from([Action(bits) for bits in range(16)]), st.none() | NUMBERS)


@given(first=SUMS, second=SUMS, third=SUMS)
def test_sum_added_in_any_grouping_is_the_same(first: Sum, second: Sum, third: Sum) -> None:
    """Batches may be added up on any number of ranks."""
    assert (first + second) + third == first + (second + third)
    assert first + second == second + first


def test_sum_mean_of_unequal_parts_is_the_mean_of_all() -> None:
    """The mean is taken once, not of means."""
    assert (Sum(2.0, 1) + Sum(10.0, 5)).mean == 2.0


def test_fates_account_for_tokens_and_not_for_padding() -> None:
    """Padding is no token."""
    fates = Fates(tokens=1111, trained=1000, batches=1.0, masked=100, truncated=10, dropped=1, padding=7)
    assert fates.accounted == fates.tokens


def test_sum_mean_of_nothing_is_nan() -> None:
    """A split without targets has no loss, and does not crash."""
    assert math.isnan(Sum(0.0, 0).mean)


@given(first=WISHES, second=WISHES, third=WISHES)
def test_wish_joined_in_any_grouping_is_the_same(first: Wish, second: Wish, third: Wish) -> None:
    """The order of hooks decides, not how their answers are gathered."""
    assert (first | second) | third == first | (second | third) == Wish.all_of([first, second, third])


@given(wish=WISHES)
def test_wish_nothing_changes_nothing(wish: Wish) -> None:
    """A hook that wants nothing is not heard."""
    assert wish | NOTHING == NOTHING | wish == wish
    assert Wish.all_of([]) == NOTHING


@pytest.mark.parametrize(("first", "second", "factor"), [(0.5, 0.1, 0.1), (0.5, None, 0.5), (None, 0.1, 0.1)])
def test_wish_two_factors_the_later_counts(first: float | None, second: float | None, factor: float) -> None:
    """Actions add up; a factor replaces the one before."""
    both = Wish(Action.SAVE, first) | Wish(Action.PAUSE, second)
    assert both == Wish(Action.SAVE | Action.PAUSE, factor)
