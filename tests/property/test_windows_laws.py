"""Every window exactly once an epoch, for any length, batch and seed; and the permutation that makes it so."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.data_pipeline.sampling.permutation import KeyedPermutation
from ml_playground.data_pipeline.sampling.token_windows import TrainingBatches, Windows
from ml_playground.data_pipeline.settings import TokenWindows

orders = st.sampled_from(["random", "sequential"])


def batches_of(tokens: int, length: int, rows: int, order: str, seed: int) -> tuple[TrainingBatches, Windows]:
    """Batches over the tokens 0, 1, 2, ...: a label is its position."""
    windows = Windows(np.arange(tokens, dtype=np.uint16), length)
    settings = TokenWindows.model_validate({"sequence_tokens": length, "micro_batch_rows": rows, "order": order})
    return TrainingBatches(windows, settings, seed), windows


def labels_of(batches: Sequence[TokenBatch]) -> list[list[int]]:
    """Rows of targets, without padding."""
    rows = torch.cat([batch.labels for batch in batches]).tolist()
    return [[label for label in row if label != NO_TARGET] for row in rows]


@given(st.integers(1, 3000), st.integers(0, 2**63 - 1))
def test_permutation_any_length_and_key_is_a_bijection(length: int, key: int) -> None:
    """Each place is taken once."""
    order = KeyedPermutation(length, key)(np.arange(length, dtype=np.int64))
    assert sorted(order.tolist()) == list(range(length))


@given(st.integers(1, 10**12), st.lists(st.integers(0, 10**12), min_size=1, max_size=5), st.integers(0, 2**32))
def test_permutation_of_a_huge_length_stays_in_range_and_is_asked_in_any_order(
    length: int, places: list[int], key: int
) -> None:
    """A place's image does not depend on what else is asked, and nothing is stored."""
    asked = np.array([place % length for place in places], dtype=np.int64)
    order = KeyedPermutation(length, key)
    got = order(asked)
    assert ((got >= 0) & (got < length)).all()
    assert got.tolist() == [order(asked[index : index + 1])[0] for index in range(len(asked))]


def test_permutation_of_three_takes_all_orders_about_equally_often() -> None:
    """The shuffle is fair where a poor one would show most."""
    everything = np.arange(3, dtype=np.int64)
    counts = Counter(tuple(KeyedPermutation(3, key)(everything).tolist()) for key in range(600))
    assert len(counts) == 6
    assert min(counts.values()) > 70
    assert max(counts.values()) < 135


def test_permutation_first_place_is_spread_over_the_whole_range() -> None:
    """The first window of an epoch comes from anywhere."""
    first = np.array([KeyedPermutation(1000, key)(np.zeros(1, dtype=np.int64))[0] for key in range(300)])
    counts, _ = np.histogram(first, bins=10, range=(0, 1000))
    assert counts.min() > 12


@given(st.integers(2, 400), st.integers(1, 50), st.integers(1, 9), orders, st.integers(0, 2**32), st.integers(1, 3))
def test_batches_over_whole_epochs_give_each_target_exactly_once_an_epoch(
    tokens: int, length: int, rows: int, order: str, seed: int, epochs: int
) -> None:
    """No token is trained twice or never, also where one batch reaches over the end of an epoch."""
    length = min(length, tokens - 1)
    source, windows = batches_of(tokens, length, rows, order, seed)
    count = -(-len(windows) * epochs // rows)
    stream = labels_of([source.batch_at(index) for index in range(count)])
    for epoch in range(epochs):
        of_epoch = stream[epoch * len(windows) : (epoch + 1) * len(windows)]
        assert sorted(label for row in of_epoch for label in row) == list(range(1, tokens))


@given(st.integers(2, 300), st.integers(1, 40), st.integers(1, 5), st.integers(0, 99), st.integers(0, 50))
def test_batch_at_same_index_gives_the_same_batch(tokens: int, length: int, rows: int, seed: int, index: int) -> None:
    """A batch is a function of seed and number: that is what makes resume exact."""
    length = min(length, tokens - 1)
    first, _ = batches_of(tokens, length, rows, "random", seed)
    second, _ = batches_of(tokens, length, rows, "random", seed)
    second.batch_at(index + 1)
    assert torch.equal(first.batch_at(index).ids, second.batch_at(index).ids)
    assert torch.equal(first.batch_at(index).labels, second.batch_at(index).labels)


@given(st.integers(2, 300), st.integers(1, 40), st.integers(1, 5), orders, st.integers(0, 30))
def test_batch_labels_are_the_ids_that_come_next(tokens: int, length: int, rows: int, order: str, index: int) -> None:
    """Row by row, each label follows its id in the text; padding has no target."""
    length = min(length, tokens - 1)
    source, _ = batches_of(tokens, length, rows, order, 7)
    batch = source.batch_at(index)
    real = batch.labels != NO_TARGET
    assert torch.equal(batch.labels[real], batch.ids[real] + 1)
    assert (batch.ids[~real] == 0).all()


@given(st.integers(1, 64), st.integers(1, 8), st.integers(0, 20))
def test_rows_split_over_smaller_batches_are_the_same_rows(windows: int, rows: int, index: int) -> None:
    """Twice as many batches of half the rows see the same windows in the same order."""
    whole, _ = batches_of(windows + 1, 1, 2 * rows, "random", 3)
    halves, _ = batches_of(windows + 1, 1, rows, "random", 3)
    joined = torch.cat([halves.batch_at(2 * index).ids, halves.batch_at(2 * index + 1).ids])
    assert torch.equal(whole.batch_at(index).ids, joined)
