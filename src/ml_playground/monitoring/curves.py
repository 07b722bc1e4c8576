"""Curves as they are drawn: smoothed, and with no more points than a screen can show. Pure functions."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ml_playground.monitoring.reader import Curve

POINTS = 10_000
"""Points of a drawn curve: three for each column of a large screen, and 200 kB of a report."""


def smoothed(curve: Curve, window: float) -> Curve:
    """The mean over about `window` points to either side, nearer ones counting more; what is no number is left out.

    Looking both ways keeps a falling curve in its place; a mean over the past alone would lag behind it.
    """
    points = [pair for pair in zip(curve.steps, curve.values, strict=True) if math.isfinite(pair[1])]
    values = [value for _, value in points]
    ahead = _exponential_means(values, window)
    back = _exponential_means(values[::-1], window)[::-1]
    return Curve([step for step, _ in points], [(one + other) / 2 for one, other in zip(ahead, back, strict=True)])


def _exponential_means(values: Sequence[float], window: float) -> list[float]:
    keep = 1 - 1 / max(1.0, window)
    total = weight = 0.0
    means: list[float] = []
    for value in values:
        total = keep * total + value
        weight = keep * weight + 1
        means.append(total / weight)
    return means


def thinned(curve: Curve, points: int = POINTS) -> Curve:
    """At most `points` of a curve's points, the lowest and the highest of each stretch, so that no spike is lost."""
    count = len(curve.steps)
    if count <= points:
        return curve
    stretches = max(1, points // 2)
    bounds = [count * number // stretches for number in range(stretches + 1)]
    kept = sorted({index for first, end in pairwise(bounds) for index in _extremes(curve.values, first, end)})
    return Curve([curve.steps[index] for index in kept], [curve.values[index] for index in kept])


def _extremes(values: Sequence[float], first: int, end: int) -> Iterator[int]:
    """Positions of the lowest and the highest number in `values[first:end]`; the first one where there is no number."""
    numbers = [index for index in range(first, end) if not math.isnan(values[index])] or [first]
    yield min(numbers, key=values.__getitem__)
    yield max(numbers, key=values.__getitem__)
