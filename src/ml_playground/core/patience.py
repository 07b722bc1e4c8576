"""Waiting for somebody else, as long as there was time to come."""

from collections.abc import Callable

PARTS = 10


def came(wait: Callable[[float], object], seconds: float, parts: int = PARTS) -> bool:
    """Whether what `wait` waits for came within some seconds in which this process ran.

    They pass in parts. A machine that stands still, a laptop that sleeps, stops whoever is waited for as well: however long that
    takes, it costs one part at most.

    Args:
        wait: Waits so many seconds at most, and says whether it came.
        seconds: How long in all.
        parts: In how many parts; after each it is asked again.
    """
    return any(wait(seconds / parts) for _ in range(parts))
