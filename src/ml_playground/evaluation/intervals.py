"""How far a measured number may lie from the true one. N items, each drawn by itself; pure."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_playground.evaluation.confusion import wilson_interval

RESAMPLES = 2000
"""Enough for the ends of a 95 % interval: they move by a twentieth of its width from seed to seed."""
NUMBERS_AT_ONCE = 1 << 22
"""Drawn places that exist at the same time: 32 MB."""
TAILS = (2.5, 97.5)
"""Percentiles between which 95 % lie."""


class Estimate(NamedTuple):
    """A number and where the true one lies with 95 % confidence."""

    value: float
    low: float
    high: float


def share_of(right: int, items: int) -> Estimate:
    """Of items that are right or wrong: the share, and Wilson's interval; `items` is at least one."""
    return Estimate(right / items, *wilson_interval(right, items))


def mean_of(totals: ArrayLike, counts: ArrayLike, *, seed: int, resamples: int = RESAMPLES) -> Estimate:
    """The sum of all totals over the sum of all counts, and its interval by the bootstrap over items.

    Whole items are drawn again, so that the targets of a row, which are not independent, stay together.

    Args:
        totals: (N,) of each item, nats say.
        counts: (N,) what they are over, targets say; their sum is not zero.
        seed: Equal seed, equal interval.
        resamples: How many samples of N items are drawn.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentiles).
    """
    tops, bottoms = (np.asarray(one, dtype=np.float64) for one in (totals, counts))
    value = float(tops.sum() / bottoms.sum())
    means: list[float] = []
    for drawn in resampled(len(tops), seed=seed, resamples=resamples):
        below = bottoms[drawn].sum(axis=1)
        # A sample of nothing but items without a count has no mean.
        means += (tops[drawn].sum(axis=1)[below > 0] / below[below > 0]).tolist() or [value]
    low, high = np.percentile(means, TAILS).tolist()
    # Of a very skewed sample the value itself may lie outside of the percentiles.
    return Estimate(value, min(low, value), max(high, value))


def resampled(items: int, *, seed: int, resamples: int = RESAMPLES) -> Iterator[NDArray[np.int64]]:
    """Which of N items the samples of a bootstrap hold: (samples, N), as many samples at a time as memory should hold."""
    generator = np.random.default_rng(seed)
    most = max(1, NUMBERS_AT_ONCE // items)
    for first in range(0, resamples, most):
        yield generator.integers(items, size=(min(most, resamples - first), items))
