"""What counting alone achieves: unigram and bigram models of the training split. V vocabulary, N targets.

Both are fitted on pairs (token, next token) as a model is trained on them, so that they see the same text and predict the
same targets. The unigram adds one to each count; the bigram is interpolated with it after Witten and Bell: a token that was
followed by many different ones leaves more room for yet another.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PAIRS_AT_ONCE = 1 << 22
"""Pairs that are kept before they are folded into counts: 32 MB, sorted in 0.4 s."""


@dataclass(frozen=True, slots=True)
class Baselines:
    """Counts of a training split; memory grows with the different pairs in it, never with V * V."""

    tokens: Ints
    """(V,) how often each token is a target."""
    pairs: Ints
    """Sorted `token * V + next` of each pair that occurs."""
    pair_counts: Ints
    """How often each of them occurs."""
    contexts: Ints
    """(V,) how often each token is followed by a target."""
    followers: Ints
    """(V,) by how many different ones."""

    @classmethod
    def fit(cls, batches: Iterable[TokenBatch], vocab_size: int, *, pairs_at_once: int = PAIRS_AT_ONCE) -> Self:
        """Count every target of the batches once."""
        tokens = np.zeros(vocab_size, dtype=np.int64)
        pairs = counts = np.zeros(0, dtype=np.int64)
        waiting: list[Ints] = []
        for batch in batches:
            before, targets = pairs_of(batch)
            tokens += np.bincount(targets, minlength=vocab_size)
            waiting.append(before * vocab_size + targets)
            if sum(map(len, waiting)) >= pairs_at_once:
                pairs, counts = _folded(pairs, counts, waiting)
                waiting = []
        pairs, counts = _folded(pairs, counts, waiting)
        contexts = np.zeros(vocab_size, dtype=np.int64)
        np.add.at(contexts, pairs // vocab_size, counts)
        return cls(tokens, pairs, counts, contexts, np.bincount(pairs // vocab_size, minlength=vocab_size))

    def unigram_nats(self, targets: Ints) -> Floats:
        """Loss of each target (n,), in nats: -ln (count + 1) / (N + V)."""
        return -np.log(self._share(targets))

    def bigram_nats(self, before: Ints, targets: Ints) -> Floats:
        """Loss of each target (n,) after the token before it (n,), in nats.

        -ln (count(v, w) + followers(v) * unigram(w)) / (count(v) + followers(v)); the unigram's where v was never seen.

        Source: Witten and Bell 1991, method C, doi:10.1109/18.87000; interpolated as in Chen and Goodman 1998, section 2.4.
        """
        seen = self._count_of_pairs(before * len(self.tokens) + targets)
        followers = self.followers[before]
        whole = self.contexts[before] + followers
        share = self._share(targets)
        return -np.log(np.where(whole > 0, (seen + followers * share) / np.maximum(whole, 1), share))

    def _share(self, targets: Ints) -> Floats:
        return (self.tokens[targets] + 1) / (self.tokens.sum() + len(self.tokens))

    def _count_of_pairs(self, keys: Ints) -> Ints:
        if not len(self.pairs):
            return np.zeros(len(keys), dtype=np.int64)
        places = np.minimum(np.searchsorted(self.pairs, keys), len(self.pairs) - 1)
        return np.where(self.pairs[places] == keys, self.pair_counts[places], 0)


def pairs_of(batch: TokenBatch) -> tuple[Ints, Ints]:
    """The token before each target (n,), and the targets (n,), in the order of the rows."""
    ids, labels = batch.ids.cpu().numpy().ravel(), batch.labels.cpu().numpy().ravel()
    counted = labels != NO_TARGET
    return ids[counted], labels[counted]


def _folded(pairs: Ints, counts: Ints, waiting: Iterable[Ints]) -> tuple[Ints, Ints]:
    """Counts with more pairs in them."""
    fresh, fresh_counts = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *waiting]), return_counts=True)
    merged, places = np.unique(np.concatenate([pairs, fresh]), return_inverse=True)
    total = np.zeros(len(merged), dtype=np.int64)
    np.add.at(total, places, np.concatenate([counts, fresh_counts]))
    return merged, total
