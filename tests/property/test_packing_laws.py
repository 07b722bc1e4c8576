"""Best fit decreasing, by sizes together, is what it is item by item."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.data_pipeline.sampling.packing import best_fit_decreasing

CAPACITY = 24
some_sizes = st.lists(st.integers(1, CAPACITY), max_size=70)


def one_by_one(sizes: list[int], capacity: int) -> list[list[int]]:
    """The sizes in each bin: from the largest on, each into the fullest bin with room."""
    bins: list[list[int]] = []
    for size in sorted(sizes, reverse=True):
        room = [held for held in bins if sum(held) + size <= capacity]
        if room:
            max(room, key=sum).append(size)
        else:
            bins.append([size])
    return bins


@given(some_sizes)
def test_best_fit_fills_bins_as_item_by_item(sizes: list[int]) -> None:
    """The same bins up to which of equal items, and which of equally full bins, is meant."""
    bins = best_fit_decreasing(np.array(sizes, dtype=np.int64), CAPACITY)
    got = [sorted(sizes[item] for item in bins.members_of(number)) for number in range(len(bins))]
    assert sorted(map(sum, got)) == sorted(map(sum, one_by_one(sizes, CAPACITY)))


@given(some_sizes)
def test_best_fit_puts_each_item_into_one_bin_that_holds_it(sizes: list[int]) -> None:
    """Nothing is lost or doubled, and no bin holds more than it can."""
    bins = best_fit_decreasing(np.array(sizes, dtype=np.int64), CAPACITY)
    assert sorted(bins.members.tolist()) == list(range(len(sizes)))
    assert bins.starts[0] == 0
    assert bins.starts[-1] == len(sizes)
    assert all(0 < sum(sizes[item] for item in bins.members_of(number)) <= CAPACITY for number in range(len(bins)))


@given(some_sizes)
def test_best_fit_leaves_one_bin_at_most_half_empty(sizes: list[int]) -> None:
    """Two such bins would have been one: fewer than twice as many as there must be, whatever comes."""
    bins = best_fit_decreasing(np.array(sizes, dtype=np.int64), CAPACITY)
    sums = [sum(sizes[item] for item in bins.members_of(number)) for number in range(len(bins))]
    assert sum(2 * held <= CAPACITY for held in sums) <= 1
    assert all(one + other > CAPACITY for one, other in zip(sorted(sums), sorted(sums)[1:], strict=False))


@given(some_sizes)
def test_bins_and_their_items_stand_in_the_order_of_the_items(sizes: list[int]) -> None:
    """So that a sequential epoch goes through the chats about as they stand."""
    bins = best_fit_decreasing(np.array(sizes, dtype=np.int64), CAPACITY)
    held = [bins.members_of(number).tolist() for number in range(len(bins))]
    assert all(members == sorted(members) for members in held)
    assert [members[0] for members in held] == sorted(members[0] for members in held)
