"""Words on stderr that make nobody wait: a reader that has stopped reading costs the words, never the work."""

import io
import os
import select
import sys
from collections import deque
from contextlib import suppress
from threading import Lock, RLock, Thread
from typing import TextIO

from ml_playground.core.patience import came
from ml_playground.core.side_threads import started

# A pipe that can be written to at all takes 4,096 bytes without a wait; a character of UTF-8 has at most four.
_PIECE_CHARACTERS = 1000
_LOOK_AGAIN_S = 1.0

_writing = RLock()
"""Held from the look for room to the end of the write: of two threads that find the same room, the second would hang in its write.

Taken again by who holds it: any allocation may run a finalizer, whose complaint goes to stderr, which a live picture hands to us.
"""

PATIENCE_S = 0.1
"""How long somebody who has something to say waits for a reader that has stopped reading; later words do not wait."""
MOST_MOMENTS = 50
"""How many such moments for a thread that gets no processor, so that words come in the order in which things happened."""
MOST_LINES = 1000
"""Words kept for a reader that has stopped reading; beyond it the oldest are lost."""


def takes_words(descriptor: int, wait_s: float = 0.0) -> bool:
    """Whether a pipe, a terminal or a file takes the next few bytes without a wait, or fails at once."""
    if sys.platform == "win32":
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(wait_s * 1000))


def say_at_once(text: str) -> None:
    """A word from a handler of signals: straight to the descriptor, or not at all where that would wait or nobody listens.

    Where stderr was closed before the program began, its descriptor is by now that of some other file.
    """
    with suppress(OSError):
        if sys.stderr is not None and takes_words(2):  # pyright: ignore[reportUnnecessaryComparison]
            os.write(2, text.encode())


class PatientStderr(io.TextIOBase):
    """The standard error of this moment; a write waits for its reader without a lock that the exit of the program needs.

    A thread that hangs in a plain write holds the lock of the buffer, and Python ends with a fatal error when it exits.
    """

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As stderr has it."""
        return getattr(_stderr(), "encoding", None) or "utf-8"

    def write(self, text: str, /) -> int:
        """Write piece by piece, each when there is room for it.

        Raises:
            OSError: Nobody can read it any more.
        """
        stream = _stderr()
        if stream is None:
            return len(text)
        for start in range(0, len(text), _PIECE_CHARACTERS):
            with _writing:
                _wait_for_room(stream)
                stream.write(text[start : start + _PIECE_CHARACTERS])
                stream.flush()
        return len(text)

    def isatty(self) -> bool:
        """Whether somebody sits before it."""
        stream = _stderr()
        return stream is not None and stream.isatty()

    def fileno(self) -> int:
        """As stderr has it.

        Raises:
            OSError: It has none.
        """
        stream = _stderr()
        if stream is None:
            raise io.UnsupportedOperation("stderr is closed")
        return stream.fileno()


class Speaker:
    """Says lines in their order on a thread that lives only while there is something to say."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._lock = Lock()
        self._thread: Thread | None = None
        self._hangs = False
        """Whether somebody has waited for this thread in vain."""

    def say(self, line: str) -> None:
        """Say a line; returns when it is said, or when that takes longer than a moment."""
        with self._lock:
            self._lines.append(line)
            # Also one that says the line of another thread, which this one comes behind.
            thread = self._thread or self._begun()
            if thread is not None and self._hangs:
                return
        if thread is not None:
            _let_speak(thread)
            with self._lock:
                self._hangs |= thread is self._thread
        elif _takes_words_now():
            self._speak()
        # Else said with the next line for which there is a thread.

    def _begun(self) -> Thread | None:
        thread = Thread(target=self._speak, name="stderr", daemon=True)
        self._thread, self._hangs = (thread if started(thread) else None), False
        return self._thread

    def _speak(self) -> None:
        while (line := self._next()) is not None:
            # A live picture stands in for stderr and draws itself anew below the line.
            stream = sys.stderr if hasattr(sys.stderr, "rich_proxied_file") else PatientStderr()
            # Nobody reads it any more, or the program itself has closed it.
            with suppress(OSError, ValueError):
                stream.write(f"{line}\n")

    def _next(self) -> str | None:
        with self._lock:
            if self._lines:
                return self._lines.popleft()
            self._thread = None
            return None


def _stderr() -> TextIO | None:
    """Standard error itself, also where a live picture stands in for it; none where it was closed before the program began."""
    return getattr(sys.stderr, "rich_proxied_file", sys.stderr)


def _let_speak(thread: Thread) -> None:
    def is_over(seconds: float) -> bool:
        thread.join(seconds)
        return not (thread.is_alive() and _takes_words_now())

    came(is_over, MOST_MOMENTS * PATIENCE_S, MOST_MOMENTS)


def _takes_words_now() -> bool:
    stream = _stderr()
    try:
        return stream is not None and takes_words(stream.fileno())
    except (OSError, ValueError):
        return True  # It is kept in memory, or closed.


def _wait_for_room(stream: TextIO) -> None:
    try:
        descriptor = stream.fileno()
    except OSError:
        return  # It is kept in memory.
    while not takes_words(descriptor, _LOOK_AGAIN_S):
        pass
