"""Laws of the baselines and of the tally."""

import itertools
import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.evaluation.baselines import Baselines, pairs_of
from ml_playground.evaluation.loss import Tally

VOCABULARY = 6
texts = st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=60)


def batches_of(ids: list[int], rows: int = 2, length: int = 3) -> list[TokenBatch]:
    """Every pair of neighbours once, in rows of a few; the rest is padding without a target."""
    pairs = list(itertools.pairwise(ids))
    size = rows * length
    padded = pairs + [(0, NO_TARGET)] * (-len(pairs) % size)
    grouped = [padded[first : first + size] for first in range(0, len(padded), size)]
    return [
        TokenBatch(
            torch.tensor([before for before, _ in group]).view(rows, length),
            torch.tensor([after for _, after in group]).view(rows, length),
        )
        for group in grouped
    ]


@given(texts)
def test_baselines_every_context_gives_probabilities_that_sum_to_one(ids: list[int]) -> None:
    """Both are distributions over the whole vocabulary, seen context or not, and nothing is impossible."""
    baselines = Baselines.fit(batches_of(ids), VOCABULARY)
    targets = np.arange(VOCABULARY)
    np.testing.assert_allclose(np.exp(-baselines.unigram_nats(targets)).sum(), 1, rtol=1e-12)
    for before in range(VOCABULARY):
        nats = baselines.bigram_nats(np.full(VOCABULARY, before), targets)
        np.testing.assert_allclose(np.exp(-nats).sum(), 1, rtol=1e-12)
        assert np.isfinite(nats).all()


@given(texts, st.integers(1, 20))
def test_baselines_folded_more_often_gives_the_same_counts(ids: list[int], pairs_at_once: int) -> None:
    """Bounding the memory changes nothing."""
    once = Baselines.fit(batches_of(ids), VOCABULARY)
    often = Baselines.fit(batches_of(ids), VOCABULARY, pairs_at_once=pairs_at_once)
    for name in ("tokens", "pairs", "pair_counts", "contexts", "followers"):
        np.testing.assert_array_equal(getattr(once, name), getattr(often, name))


@given(texts)
def test_baselines_counts_equal_counting_by_hand(ids: list[int]) -> None:
    """Witten and Bell's formula on plain Python counts."""
    baselines = Baselines.fit(batches_of(ids), VOCABULARY)
    pairs = list(itertools.pairwise(ids))
    before, after = ids[0], ids[1]
    share = (ids[1:].count(after) + 1) / (len(pairs) + VOCABULARY)
    followers = len({second for first, second in pairs if first == before})
    expected = (pairs.count((before, after)) + followers * share) / (ids[:-1].count(before) + followers)
    nats = baselines.bigram_nats(np.array([before]), np.array([after]))
    np.testing.assert_allclose(nats, [-math.log(expected)], rtol=1e-12)


@given(texts)
def test_pairs_of_batch_leaves_out_what_has_no_target(ids: list[int]) -> None:
    """Each pair once, in order."""
    parts = [pairs_of(batch) for batch in batches_of(ids)]
    assert np.concatenate([targets for _, targets in parts]).tolist() == ids[1:]
    assert np.concatenate([before for before, _ in parts]).tolist() == ids[:-1]


@given(texts, st.integers(1, 3))
def test_tally_split_into_parts_gives_the_same_score(ids: list[int], rows: int) -> None:
    """Batches of any size: the means are over targets, not over batches."""
    token_bytes = np.array([1, 2, 3, 1, 4, 0])
    ids = [*ids, 0]
    nats = np.linspace(0.1, 3, len(ids))
    whole, parts = Tally(token_bytes), Tally(token_bytes)
    whole.add(nats, np.array(ids))
    for first in range(0, len(ids), rows):
        parts.add(nats[first : first + rows], np.array(ids[first : first + rows]))
    np.testing.assert_allclose(parts.score().loss, whole.score().loss, rtol=1e-12)
    np.testing.assert_allclose(parts.score().bits_per_byte, whole.score().bits_per_byte, rtol=1e-12)


def test_tally_uniform_bytes_are_eight_bits_each() -> None:
    """A model that knows nothing of bytes needs eight bits for each; ends of text count in the loss alone."""
    tally = Tally(np.array([1] * 256 + [0]))
    tally.add(np.full(256, math.log(256)), np.arange(256))
    tally.add(np.array([99.0]), np.array([256]))
    assert math.isclose(tally.score().bits_per_byte, 8, rel_tol=1e-12)
    assert tally.targets == 257
    assert tally.text_bytes == 256


def test_baselines_without_any_text_know_nothing() -> None:
    """Every token is equally likely, after every token."""
    baselines = Baselines.fit([], VOCABULARY)
    nats = baselines.bigram_nats(np.zeros(VOCABULARY, dtype=np.int64), np.arange(VOCABULARY))
    np.testing.assert_allclose(nats, math.log(VOCABULARY))
