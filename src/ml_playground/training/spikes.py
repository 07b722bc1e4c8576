"""When a loss stands so far above those before it that its step counts as bad: a pure function."""

import statistics
from collections.abc import Sequence

WINDOW = 64
"""Losses before a step that it is measured against; before there are so many, no step is a spike."""

# Standard deviations of a normal distribution in one median absolute deviation.
_SIGMAS = 1.4826
# Of the level: where losses hardly differ, rounding must not pass for a spike.
_LEAST_SPREAD = 0.01


def spike_level(recent: Sequence[float], factor: float) -> float | None:
    """The loss above which a step is a spike: median + factor * spread; None while too few losses are known.

    Median and median absolute deviation, for half of the losses may be wild before either moves far (Hampel, 1974).

    Args:
        recent: Losses of good steps, oldest first, nats per target; the last `WINDOW` count.
        factor: In robust standard deviations.
    """
    if len(recent) < WINDOW:
        return None
    losses = recent[-WINDOW:]
    median = statistics.median(losses)
    spread = _SIGMAS * statistics.median(abs(loss - median) for loss in losses)
    return median + factor * max(spread, _LEAST_SPREAD * abs(median))
