"""A journal in memory."""

from ml_playground.core.values import NOTHING, Wish


class MemoryJournal:
    """Remembers wishes by step; `written` lists what was recorded by this process."""

    def __init__(self) -> None:
        self.rows: dict[int, Wish] = {}
        self.written: list[int] = []

    def recorded(self, step: int) -> Wish:
        """The wish of a step."""
        return self.rows.get(step, NOTHING)

    def record(self, step: int, wish: Wish) -> None:
        """Remember it."""
        self.rows[step] = self.recorded(step) | wish
        self.written.append(step)
