"""Batches of pairs: both answers together, each pair once an epoch, every token's fate; and scores that are asked for once."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.batches import NO_TARGET, PairBatch, TokenBatch
from ml_playground.data_pipeline.sampling.cutting import cut
from ml_playground.data_pipeline.sampling.epoch_order import EpochBatches, EpochOrder, evaluated
from ml_playground.data_pipeline.sampling.fates import pair_fates
from ml_playground.data_pipeline.sampling.pair_cutting import whole_pairs
from ml_playground.data_pipeline.sampling.preference_pairs import PairRows
from ml_playground.data_pipeline.sampling.reference_scores import kept_scores, path_of
from ml_playground.data_pipeline.settings import PreferencePairs
from tests.fakes.chats_in_memory import ChatsInMemory

Policy = Literal["drop", "left", "right"]
weights = st.sampled_from([0.0, 0.0, 1.0, 0.5])
answers = st.lists(weights, max_size=12)
pairs = st.lists(st.tuples(answers, answers), min_size=1, max_size=8).map(
    lambda held: [row for pair in held for row in pair]
)
policies = st.sampled_from(("drop", "left", "right"))


def settings_of(**options: Any) -> PreferencePairs:
    return PreferencePairs(reference=Path("/reference"), **options)


def rows_of(held: Sequence[Sequence[float]], **options: Any) -> PairRows:
    """Scored by their place, so that a score says whose it is."""
    rows = PairRows(ChatsInMemory(held), settings_of(**options))
    rows.scores = np.arange(len(rows.cut.rows), dtype=np.float32)
    return rows


@given(pairs, st.integers(1, 9), policies)
def test_pairs_are_whole_or_left_out(held: list[list[float]], length: int, policy: Policy) -> None:
    """Of a pair both answers have a target in their row, or neither is trained on; every token keeps its one fate."""
    singles = cut(ChatsInMemory(held), length, policy)
    found = whole_pairs(singles)
    usable = set(singles.rows.tolist())
    assert found.rows.tolist() == [
        row for pair in range(len(held) // 2) for row in (2 * pair, 2 * pair + 1) if {2 * pair, 2 * pair + 1} <= usable
    ]
    fates = pair_fates(found, settings_of(sequence_tokens=length, truncation=policy))
    assert fates.accounted == fates.tokens == sum(map(len, held))
    assert fates.masked >= 0 and fates.dropped >= 0


@given(pairs, st.integers(1, 5), st.integers(0, 99), st.sampled_from(["random", "sequential"]))
def test_each_pair_comes_once_an_epoch_with_both_answers_and_their_scores(
    held: list[list[float]], size: int, seed: int, order: Any
) -> None:
    """Row 2k of a batch is the better answer, row 2k + 1 the worse one of the same pair; padding is what the fates say."""
    rows = rows_of(held, sequence_tokens=16, micro_batch_rows=size, order=order)
    if not len(rows):
        return
    batches = EpochBatches(rows.batch, EpochOrder(len(rows), size, order, seed, "examples"))
    seen: list[tuple[float, float]] = []
    for index in range(-(-len(rows) // size)):
        batch = batches.batch_at(index)
        assert batch.rows * 2 == len(batch.tokens.ids) == len(batch.reference)
        for pair in range(batch.rows):
            better, worse = batch.reference[2 * pair : 2 * pair + 2].tolist()
            assert (better % 2, worse) == (0, better + 1)
            seen.append((better, worse))
            for row, piece in ((2 * pair, int(better)), (2 * pair + 1, int(worse))):
                wanted = rows.cut.tokens_of(ChatsInMemory(held), piece).astype(np.int64)
                assert batch.tokens.ids[row][: len(wanted) - 1].tolist() == wanted[:-1].tolist()
                targets = batch.tokens.labels[row] != NO_TARGET
                assert int(targets.sum()) == rows.cut.targets[piece]
    assert sorted(set(seen)) == [(2.0 * pair, 2.0 * pair + 1) for pair in range(len(rows))]
    assert len(set(seen[: len(rows)])) == len(rows)


@given(pairs, st.integers(1, 5))
def test_padding_of_an_evaluation_is_counted_to_the_position(held: list[list[float]], size: int) -> None:
    """Of val and test exactly: they come the longest first."""
    rows = rows_of(held, sequence_tokens=16, micro_batch_rows=size)
    options = settings_of(sequence_tokens=16, micro_batch_rows=size)
    batches = [rows.batch(some) for some in evaluated(len(rows), size, 16, None, rows.evaluation_order)]
    positions = sum(batch.tokens.ids.numel() for batch in batches)
    fates = pair_fates(rows.cut, options, "val")
    assert fates.padding == positions - int(rows.cut.positions.sum())
    assert fates.batches == len(rows) / size


@given(st.integers(1, 6), st.integers(1, 8))
def test_a_batch_of_pairs_is_split_between_pairs(count: int, parts: int) -> None:
    """In order, nearly equal, both answers of each pair and their scores together."""
    ids = torch.arange(2 * count)[:, None].expand(-1, 3)
    batch = PairBatch(TokenBatch(ids, ids), torch.arange(2 * count).float())
    pieces = batch.split(parts)
    assert len(pieces) <= parts and max(p.rows for p in pieces) - min(p.rows for p in pieces[:-1] or pieces) <= 1
    assert torch.equal(torch.cat([piece.tokens.ids for piece in pieces]), ids)
    assert torch.equal(torch.cat([piece.reference for piece in pieces]), batch.reference)
    assert all(torch.equal(piece.tokens.ids[:, 0].float(), piece.reference) for piece in pieces)


class Echo:
    """A reference that thinks each row as likely as its first id says, and counts how often it is asked."""

    name, fingerprint, dtype = "data.reference = echo", "f" * 64, "float32"

    def __init__(self, factor: float = 1.0) -> None:
        self.asked, self._factor = 0, factor

    def log_probabilities(self, batches: Iterable[TokenBatch], rows: int) -> Iterator[NDArray[np.float32]]:
        """Batch by batch."""
        self.asked += 1
        total = 0
        for batch in batches:
            total += batch.rows
            yield (self._factor * batch.ids[:, 0]).float().numpy()
        assert total == rows


HELD = [[0.0, 1.0, 1.0], [0.0, 1.0], [0.0, 0.0, 1.0, 1.0], [0.0, 1.0]]


def scored(reference: Echo, **options: Any) -> list[list[float]]:
    """By split: what is kept of two splits."""
    wanted = settings_of(**{"sequence_tokens": 16} | options)
    splits = {
        name: PairRows(ChatsInMemory(held), wanted).pieces for name, held in {"train": HELD, "val": HELD[:2]}.items()
    }
    return [found.tolist() for found in kept_scores("data", reference, splits, wanted).values()]


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLP_HOME", str(tmp_path_factory.mktemp("home")))


def test_scores_belong_to_their_rows_and_are_asked_for_once() -> None:
    """Rows are read the longest first; what comes back is in the order of the pieces, and lies in the cache from then on."""
    reference = Echo()
    assert scored(reference) == scored(reference) == [[0.0, 3.0, 5.0, 9.0], [0.0, 3.0]]
    assert reference.asked == 1


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-1], lambda content: content[:-1] + b"x", lambda _: b""],
    ids=["short", "another byte", "empty"],
)
def test_a_damaged_cache_counts_as_absent(damage: Any) -> None:
    """It is no data of its user's, and is made again."""
    reference = Echo()
    whole = scored(reference)
    path = path_of("data", reference, settings_of(sequence_tokens=16))
    path.write_bytes(damage(path.read_bytes()))
    assert scored(reference) == whole and reference.asked == 2


@pytest.mark.parametrize("option", [{"sequence_tokens": 12}, {"truncation": "left"}])
def test_another_cut_has_scores_of_its_own(option: dict[str, Any]) -> None:
    """A shorter row is another text; so are the data, the model and its precision, which all are in the name."""
    reference, changed = Echo(), Echo()
    changed.dtype = "bfloat16"
    base = settings_of(sequence_tokens=16)
    assert path_of("data", reference, base) != path_of("data", reference, base.model_copy(update=option))
    assert (
        len({path_of("data", reference, base), path_of("data", changed, base), path_of("other", reference, base)}) == 3
    )


def test_scores_are_of_no_other_batch_size() -> None:
    """How many are read at once is no matter of what they say."""
    reference = Echo()
    assert scored(reference, micro_batch_rows=1) == scored(reference, micro_batch_rows=3) and reference.asked == 1


def test_an_answer_that_the_reference_thinks_impossible_is_refused_and_nothing_kept() -> None:
    """Nothing can be compared with it; a cache of it would hide the problem."""
    with pytest.raises(
        DataError, match=r"data.reference = echo thinks 6 of 6 answers impossible: .* check the model with: mlp sample"
    ):
        scored(Echo(float("inf")))
    assert not path_of("data", Echo(), settings_of(sequence_tokens=16)).exists()
