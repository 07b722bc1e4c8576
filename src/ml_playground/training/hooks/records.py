"""What several hooks need to write lines that outlive them: events, cuts after a resume, a word on stderr."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_playground.core.atomic import append_lines, cut_lines
from ml_playground.core.deps import Clock
from ml_playground.core.error_handling import StorageError
from ml_playground.core.foreign_files import json_table
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import Event
from ml_playground.core.standard_error import Speaker

Tell = Callable[[str], None]
"""Says one line to whoever sits before the run."""


PENDING_LINES = 100_000
"""Lines kept in memory while the disk is full, about 30 MB; beyond it the oldest are lost."""


_SPEAKER = Speaker()


def tell_stderr(text: str) -> None:
    """One line on stderr, which the live console prints above its own lines; nobody need be there to read it."""
    _SPEAKER.say(text)


class Appender:
    """Appends lines to a file, one write a call; a full disk costs neither the run nor, once there is room, the lines."""

    def __init__(self, path: Path, what: str, tell: Tell) -> None:
        self._path = path
        self._what = what
        self._tell = tell
        self._pending: deque[str] = deque(maxlen=PENDING_LINES)
        self._failed = False

    def append(self, lines: Iterable[str]) -> None:
        """Write the lines; when that fails, say so once, keep them, and try again with the next."""
        self._pending.extend(lines)
        if not self._pending:
            return
        try:
            append_lines(self._path, list(self._pending))
        except StorageError as error:
            if not self._failed:
                self._tell(f"{self._what} are kept in memory for now, training goes on: {error}")
            self._failed = True
            return
        self._pending.clear()
        if self._failed:
            self._tell(f"{self._what} are written to {self._path} again")
        self._failed = False


class EventLog:
    """Appends to `events.jsonl`."""

    def __init__(self, run: RunFolder, clock: Clock, tell: Tell = tell_stderr) -> None:
        self._lines = Appender(run.events, "events", tell)
        self._clock = clock

    def note(self, kind: str, step: int, /, **data: Any) -> None:
        """Append what happened just now."""
        event = Event(time=self._clock.now(), step=step, kind=kind, data=data)
        self._lines.append([event.model_dump_json()])


def cut_after(path: Path, first_step: int, *, evaluates_again: bool = False) -> int:
    """Drop the rows that a process beginning at `first_step` will write again; returns how many there were.

    At step 0 that is every row, an evaluation before the first step among them; with `evaluates_again` also the evaluation at
    `first_step` itself. Unreadable lines go as well: no reader could use them.
    """

    def stays(line: str) -> bool:
        row = _table_of(line)
        step = row.get("step")
        again = evaluates_again and step == first_step and row.get("kind") == "evaluation"
        return first_step > 0 and isinstance(step, int) and step <= first_step and not again

    return cut_lines(path, stays)


def json_number(value: float | None) -> float | None:
    """A number as JSON can hold it: None for NaN and infinities."""
    return value if value is not None and math.isfinite(value) else None


def step_of(line: str) -> int | None:
    """The step of a row of JSON; None if it is none."""
    step = _table_of(line).get("step")
    return step if isinstance(step, int) else None


def _table_of(line: str) -> Mapping[str, Any]:
    """A row of JSON; an empty one if it is none."""
    try:
        return json_table(line)
    except ValueError:
        return {}
