"""A journal in memory."""

from typing import Any

from ml_playground.core.values import NOTHING, Wish


class MemoryJournal:
    """Remembers wishes by step; `written` lists what was recorded by this process."""

    def __init__(self) -> None:
        self.rows: dict[int, Wish] = {}
        self.written: list[int] = []
        self.notes: list[tuple[str, int, dict[str, Any]]] = []

    def recorded(self, step: int) -> Wish:
        """The wish of a step."""
        return self.rows.get(step, NOTHING)

    def record(self, step: int, wish: Wish) -> None:
        """Remember it."""
        self.rows[step] = self.recorded(step) | wish
        self.written.append(step)

    def note(self, kind: str, step: int, /, **data: Any) -> None:
        """Keep it."""
        self.notes.append((kind, step, data))
