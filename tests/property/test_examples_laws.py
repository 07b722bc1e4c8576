"""Batches of chats: what a slow and plain reference says, each row once an epoch, and every token's fate."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.data_pipeline.sampling.cutting import cut
from ml_playground.data_pipeline.sampling.epoch_order import EpochBatches, EpochOrder, evaluated
from ml_playground.data_pipeline.sampling.example_rows import BatchRows, PackedRows, PaddedRows
from ml_playground.data_pipeline.sampling.fates import packed_fates, padded_fates
from ml_playground.data_pipeline.settings import PackedExamples, PaddedExamples
from tests.fakes.chats_in_memory import ChatsInMemory

Policy = Literal["drop", "left", "right", "split"]
POLICIES: tuple[Policy, ...] = ("drop", "left", "right", "split")

weights = st.sampled_from([0.0, 0.0, 1.0, 0.5])
chats = st.lists(st.lists(weights, max_size=14), min_size=1, max_size=12)
policies = st.sampled_from(POLICIES)


def pieces_by_hand(held: Sequence[Sequence[float]], most: int, policy: Policy) -> list[list[int]]:
    """Of each chat the places of the tokens that a row has; those without a target are left out."""
    found, first = [], 0
    for row in held:
        places = list(range(first, first + len(row)))
        first += len(row)
        if len(places) <= most:
            found.append(places)
        elif policy == "left":
            found.append(places[-most:])
        elif policy == "right":
            found.append(places[:most])
        elif policy == "split":
            found += [places[at : at + most] for at in range(0, len(places) - 1, most - 1)]
    flat = [weight for row in held for weight in row]
    return [places for places in found if any(flat[place] > 0 for place in places[1:])]


def padded(held: ChatsInMemory, **settings: Any) -> PaddedRows:
    return PaddedRows(held, PaddedExamples(**settings))


def packed(held: ChatsInMemory, **settings: Any) -> PackedRows:
    return PackedRows(held, PackedExamples(**settings))


def all_rows(rows: BatchRows) -> Iterator[tuple[int, TokenBatch]]:
    """Each row in a batch of its own."""
    for number in range(len(rows)):
        yield number, rows.batch(np.array([number]))


@given(chats, st.integers(1, 9), policies)
def test_cut_is_what_is_cut_by_hand(held: list[list[float]], length: int, policy: Policy) -> None:
    """Pieces, targets, and which tokens nobody sees."""
    found = cut(ChatsInMemory(held), length, policy)
    expected = pieces_by_hand(held, length + 1, policy)
    got = [list(range(first, first + size)) for first, size in zip(found.firsts, found.lengths, strict=True)]
    flat = [weight for row in held for weight in row]
    assert got == expected
    assert found.targets.tolist() == [sum(flat[place] > 0 for place in places[1:]) for places in expected]
    assert found.weighted or all(flat[place] in (0, 1) for places in expected for place in places[1:])
    assert not found.weighted or any(weight not in (0, 1) for weight in flat)
    seen = {place for places in expected for place in places}
    assert found.trained + found.masked <= len(seen)
    assert found.trained + found.masked + found.truncated + found.dropped == found.tokens == len(flat)
    assert len(flat) - len(seen) <= found.truncated + found.dropped


@given(chats, st.integers(1, 9))
def test_split_trains_each_target_that_any_row_can_hold(held: list[list[float]], length: int) -> None:
    """Nothing is truncated; only what stands with no target is left out; no token is trained twice."""
    found = cut(ChatsInMemory(held), length, "split")
    assert found.truncated == 0
    assert found.trained == sum(weight > 0 for row in held for weight in row[1:])


@pytest.mark.parametrize("side", ["left", "right"])
@given(held=chats, length=st.integers(1, 9))
def test_truncation_counts_what_is_cut_off(side: Policy, held: list[list[float]], length: int) -> None:
    """Each chat loses what it has too much, whatever becomes of the rest."""
    assert cut(ChatsInMemory(held), length, side).truncated == sum(max(0, len(row) - length - 1) for row in held)


def reference_row(places: list[int], flat: list[float]) -> list[tuple[int, int, float, int]]:
    """Id, label, weight and position of each position that a piece takes."""
    return [
        (place, follower if flat[follower] > 0 else NO_TARGET, flat[follower], position)
        for position, (place, follower) in enumerate(pairwise(places))
    ]


@given(chats, st.integers(1, 20), policies)
def test_padded_rows_are_those_of_the_reference(held: list[list[float]], length: int, policy: Policy) -> None:
    """Ids, labels, weights; then padding without a target."""
    flat = [weight for row in held for weight in row]
    rows = padded(ChatsInMemory(held), sequence_tokens=length, truncation=policy)
    expected = [reference_row(places, flat) for places in pieces_by_hand(held, length + 1, policy)]
    assert len(rows) == len(expected)
    for number, batch in all_rows(rows):
        want = expected[number]
        used, width = len(want), batch.ids.shape[1]
        assert used <= width <= length
        assert batch.ids[0].tolist() == [one[0] for one in want] + [0] * (width - used)
        assert batch.labels[0].tolist() == [one[1] for one in want] + [NO_TARGET] * (width - used)
        assert (batch.weights is not None) == rows.cut.weighted
        if batch.weights is not None:
            assert batch.weights[0].tolist() == [one[2] for one in want] + [0.0] * (width - used)
        assert batch.positions is None
        assert batch.documents is None


@given(chats, st.integers(1, 20), policies)
def test_packed_rows_are_pieces_of_the_reference_one_after_the_other(
    held: list[list[float]], length: int, policy: Policy
) -> None:
    """Each piece once, a document of its own whose positions begin at 0; what is left is one more document without a target."""
    flat = [weight for row in held for weight in row]
    rows = packed(ChatsInMemory(held), sequence_tokens=length, truncation=policy)
    expected = {places[0]: reference_row(places, flat) for places in pieces_by_hand(held, length + 1, policy)}
    for number, batch in all_rows(rows):
        assert batch.positions is not None
        assert batch.documents is not None
        at = 0
        for document, piece in enumerate(rows.pieces_of(number).tolist()):
            want = expected.pop(int(rows.cut.firsts[piece]))
            here = slice(at, at + len(want))
            assert batch.ids[0, here].tolist() == [one[0] for one in want]
            assert batch.labels[0, here].tolist() == [one[1] for one in want]
            assert batch.weights is None or batch.weights[0, here].tolist() == [one[2] for one in want]
            assert batch.positions[0, here].tolist() == [one[3] for one in want]
            assert set(batch.documents[0, here].tolist()) == {document}
            at += len(want)
        left = length - at
        assert batch.ids.shape == (1, length)
        assert batch.labels[0, at:].tolist() == [NO_TARGET] * left
        assert batch.positions[0, at:].tolist() == list(range(left))
        assert set(batch.documents[0, at:].tolist()) <= {len(rows.pieces_of(number))}
    assert not expected


@pytest.mark.parametrize("of", [padded, packed])
@given(
    held=chats,
    length=st.integers(1, 9),
    rows=st.integers(1, 5),
    policy=policies,
    seed=st.integers(0, 99),
    order=st.sampled_from(["random", "sequential"]),
)
def test_epochs_hold_each_target_exactly_once(
    of: Any, held: list[list[float]], length: int, rows: int, policy: Policy, seed: int, order: Any
) -> None:
    """Also where a batch reaches over the end of an epoch; the counts of the ledger are those of the batches."""
    cut_rows = of(ChatsInMemory(held), sequence_tokens=length, truncation=policy)
    if not len(cut_rows):
        return
    batches = EpochBatches(cut_rows.batch, EpochOrder(len(cut_rows), rows, order, seed, "examples"))
    stream = [
        [label for label in row if label != NO_TARGET]
        for index in range(-(-2 * len(cut_rows) // rows))
        for row in batches.batch_at(index).labels.tolist()
    ]
    for epoch in range(2):
        of_epoch = stream[epoch * len(cut_rows) : (epoch + 1) * len(cut_rows)]
        counts = Counter(label for row in of_epoch for label in row)
        assert set(counts.values()) == {1}
        assert len(counts) == cut_rows.cut.trained


@given(chats, st.integers(1, 9), st.integers(1, 5), policies)
def test_packed_fates_are_those_of_the_batches(held: list[list[float]], length: int, rows: int, policy: Policy) -> None:
    """Trained, and padding: to the token."""
    settings = PackedExamples(sequence_tokens=length, micro_batch_rows=rows, truncation=policy)
    cut_rows = PackedRows(ChatsInMemory(held), settings)
    fates = packed_fates(cut_rows.cut, settings)
    assert fates.accounted == fates.tokens == sum(map(len, held))
    assert fates.batches == len(cut_rows) / rows
    positions = sum(batch.ids.numel() for _, batch in all_rows(cut_rows))
    used = sum(len(places) - 1 for places in pieces_by_hand(held, length + 1, policy))
    assert fates.padding == positions - used
    labels = torch.cat([batch.labels for _, batch in all_rows(cut_rows)]) if len(cut_rows) else torch.empty(0)
    assert fates.trained == int((labels != NO_TARGET).sum())


@given(chats, st.integers(1, 9), st.integers(1, 5), policies)
def test_padded_fates_are_those_of_the_batches(held: list[list[float]], length: int, rows: int, policy: Policy) -> None:
    """Of a sequential epoch, and of an evaluation: to the position."""
    settings = PaddedExamples(
        sequence_tokens=length, micro_batch_rows=rows, truncation=policy, order="sequential", padding_multiple=3
    )
    cut_rows = PaddedRows(ChatsInMemory(held), settings)
    used = int(cut_rows.cut.positions.sum())
    fates = padded_fates(cut_rows.cut, settings)
    assert fates.accounted == fates.tokens == sum(map(len, held))
    batches = EpochBatches(cut_rows.batch, EpochOrder(len(cut_rows), rows, "sequential", 1, "examples"))
    widths = [batch.ids.shape[1] for index in range(-(-len(cut_rows) // rows)) for batch in [batches.batch_at(index)]]
    assert fates.padding == sum(width for width in widths for _ in range(rows)) - used - _beyond(widths, cut_rows, rows)
    chosen = evaluated(len(cut_rows), rows, length, None, cut_rows.evaluation_order)
    looked_at = [cut_rows.batch(numbers) for numbers in chosen]
    assert padded_fates(cut_rows.cut, settings, "val").padding == sum(b.ids.numel() for b in looked_at) - used
    assert [b.ids.shape[1] for b in looked_at] == sorted((b.ids.shape[1] for b in looked_at), reverse=True)


def _beyond(widths: Sequence[int], rows: BatchRows, size: int) -> int:
    """Positions of the last batch that belong to rows of the next epoch."""
    more = -len(rows) % size
    return widths[-1] * more if widths else 0


def test_padding_of_a_random_epoch_is_what_many_epochs_have_in_the_mean() -> None:
    """The order is not known to the ledger; what is to be expected of it is."""
    rng = np.random.default_rng(0)
    held = ChatsInMemory([[1.0] * int(size) for size in rng.integers(2, 60, 40)])
    settings = PaddedExamples(sequence_tokens=64, micro_batch_rows=4)
    rows = PaddedRows(held, settings)
    paddings = []
    for seed in range(150):
        order = EpochOrder(len(rows), 4, "random", seed, "examples")
        widths = rows.widths[np.stack([order.numbers_at(index) for index in range(10)])].max(1)
        paddings.append(4 * int(widths.sum()) - int(rows.cut.positions.sum()))
    expected = padded_fates(rows.cut, settings).padding
    assert abs(np.mean(paddings) - expected) < 4 * np.std(paddings) / np.sqrt(150) + 1


@given(chats, st.integers(1, 30))
def test_padded_batches_have_eight_shapes_at_most_as_it_comes(held: list[list[float]], length: int) -> None:
    """As many as torch.compile keeps; a multiple that is asked for holds, up to T."""
    rows = padded(ChatsInMemory(held), sequence_tokens=8 * length, truncation="drop")
    assert len(set(rows.widths.tolist())) <= 8
    by_three = padded(ChatsInMemory(held), sequence_tokens=8 * length, truncation="drop", padding_multiple=3)
    assert all(width % 3 == 0 or width == 8 * length for width in by_three.widths.tolist())


@given(
    chats.filter(lambda held: any(any(row[1:]) for row in held)),
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_evaluation_looks_at_each_row_once_or_at_some_spread_evenly(
    held: list[list[float]], rows: int, most: int | None
) -> None:
    """No row twice; with a limit, as many rows as so many batches have."""
    cut_rows = padded(ChatsInMemory(held), sequence_tokens=32)
    chosen = evaluated(len(cut_rows), rows, 32, most, cut_rows.evaluation_order)
    numbers = np.concatenate(chosen)
    wanted = len(cut_rows) if most is None else min(len(cut_rows), most * rows)
    assert len(set(numbers.tolist())) == len(numbers) == wanted
    assert numbers.min() < max(1, -(-len(cut_rows) // wanted))


def test_cut_of_chats_too_long_is_refused_before_it_is_asked_for() -> None:
    """Whoever cuts with `error` has looked."""
    with pytest.raises(ValueError, match="1 chats are longer than 3 tokens"):
        cut(ChatsInMemory([[0, 1, 1], [0, 1, 1, 1]]), 2, "error")


@given(chats, st.integers(1, 30))
def test_targets_are_counted_part_by_part_as_in_one(held: list[list[float]], at_once: int) -> None:
    """Weights are read some at a time, also where one chat is longer than that."""
    subject = ChatsInMemory(held)
    whole, parts = cut(subject, 5, "split"), cut(subject, 5, "split", tokens_at_once=at_once)
    assert parts.targets.tolist() == whole.targets.tolist()
