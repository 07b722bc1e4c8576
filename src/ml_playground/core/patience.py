"""Waiting for somebody else, as long as there was time to come."""

from collections.abc import Callable

PARTS = 10


def came(wait: Callable[[float], object], seconds: float) -> bool:
    """Whether what `wait` waits for came within some seconds in which this process ran.

    They pass in parts. A machine that stands still, a laptop that sleeps, stops whoever is waited for as well: however long that
    takes, it costs one part at most.

    Args:
        wait: Waits so many seconds at most, and says whether it came.
        seconds: How long in all.
    """
    return any(wait(seconds / PARTS) for _ in range(PARTS))
