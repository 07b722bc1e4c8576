"""What counting alone achieves on a text: the loss of the best n-gram model, in seconds, without any training.

Each order is interpolated with the one before, after Witten and Bell: a context that was followed by many different tokens
leaves more room for yet another. Contexts are known by a hash of 64 bits. N training, n validation tokens.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.integer[Any]]
Hashes = NDArray[np.uint64]
Floats = NDArray[np.float64]

LONGEST = 6
"""Tokens of the longest n-gram: beyond it characters gain little, and tokens of several characters lose before."""
MOST_TRAINING, MOST_VALIDATION = 3_000_000, 50_000
"""Tokens that are counted and measured: two seconds in all."""
PIECES = 20
"""Places of a text from which they are taken: its beginning alone stands for nothing but itself."""
GOLDEN, MIXER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
"""Odd multipliers without pattern, of Fibonacci hashing and of a well-tested mixer."""


def counted_loss(training: Tokens, validation: Tokens, vocab_size: int) -> float:
    """Loss of the best n-gram model, nats per token: the lowest over the lengths 1 to `LONGEST`.

    Args:
        training: (N,) what is counted; at most `MOST_TRAINING`, spread over the text.
        validation: (n,) what is measured; at most `MOST_VALIDATION`, spread over the text.
        vocab_size: How many different tokens there are.
    """
    counted, measured = _pieces(training, MOST_TRAINING), _pieces(validation, MOST_VALIDATION)
    shares = np.full(len(measured), 1 / vocab_size)
    before, here = np.zeros(len(counted), np.uint64), np.zeros(len(measured), np.uint64)
    losses: list[float] = []
    for length in range(LONGEST):
        if length:
            before, here = _longer(before, counted, length), _longer(here, measured, length)
        shares = _interpolated(before, counted, here, measured, shares)
        losses.append(float(-np.log(shares).mean()))
    return min(losses)


def _pieces(tokens: Tokens, most: int) -> Hashes:
    """At most that many tokens, from evenly spaced places."""
    if len(tokens) <= most:
        return tokens.astype(np.uint64)
    length = most // PIECES
    starts = np.linspace(0, len(tokens) - length, PIECES).astype(int).tolist()
    return np.concatenate([tokens[start : start + length] for start in starts]).astype(np.uint64)


def _longer(contexts: Hashes, tokens: Hashes, length: int) -> Hashes:
    """The hashes of contexts with one token more at their beginning; before the text there are zeros."""
    earlier = np.zeros_like(tokens)
    earlier[length:] = tokens[: max(0, len(tokens) - length)]
    return _mixed(contexts ^ _mixed(earlier + np.uint64(length << 32)))


def _mixed(values: Hashes) -> Hashes:
    product = values * GOLDEN
    return (product ^ (product >> np.uint64(29))) * MIXER


def _interpolated(before: Hashes, counted: Hashes, here: Hashes, measured: Hashes, shares: Floats) -> Floats:
    """Probability of each measured token behind its context; `shares` are those behind a context one token shorter."""
    contexts, totals = np.unique(before, return_counts=True)
    pairs, first, times = np.unique(before ^ _mixed(counted + np.uint64(1)), return_index=True, return_counts=True)
    followers = np.bincount(np.searchsorted(contexts, before[first]), minlength=len(contexts))
    place, known = _found(contexts, here)
    hit, seen = _found(pairs, here ^ _mixed(measured + np.uint64(1)))
    hits = np.where(seen, times[hit], 0)
    return np.where(known, (hits + followers[place] * shares) / (totals[place] + followers[place]), shares)


def _found(keys: Hashes, wanted: Hashes) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each wanted key stands, and whether it is there at all."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted
