"""A clock that moves only when it is told to, or by a fixed amount each time it is read."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class FixedClock:
    """Time of day and counter go together."""

    def __init__(self, start: datetime = START, step_s: float = 0.0) -> None:
        """`step_s` is what each `tick` adds, after it has been read."""
        self._start = start
        self._step_s = step_s
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        """The start, and what has passed since."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def tick(self) -> float:
        """Seconds since the start."""
        elapsed_s = self._elapsed_s
        self._elapsed_s += self._step_s
        return elapsed_s

    def advance(self, seconds: float) -> None:
        """Let time pass; also fits where something wants to sleep."""
        self._elapsed_s += seconds
