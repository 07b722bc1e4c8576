"""How far preparing has come, for whoever shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal["waiting", "fetching", "reading", "learning", "encoding", "counting", "storing", "checking"]


@dataclass(frozen=True, slots=True)
class PrepareProgress:
    """How far preparing has come."""

    phase: Phase
    characters: int = 0
    """Done in this phase; images are counted one by one."""
    of_characters: int | None = None
    """In all, where that is known."""


Report = Callable[[PrepareProgress], None]


def no_report(progress: PrepareProgress) -> None:
    """Tell nobody."""
