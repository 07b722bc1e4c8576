"""How a test says how many faults it tried; the figures are added up and printed at the end (tests/conftest.py)."""

from collections.abc import Callable
from pathlib import Path

import pytest

Tried = Callable[[str, int], None]
"""What was done, and how often."""

MEMORY_DISK = Path("/dev/shm")


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Tried:
    """Counts faults for the summary."""

    def count(what: str, number: int = 1) -> None:
        record_property(f"fault: {what}", number)

    return count
