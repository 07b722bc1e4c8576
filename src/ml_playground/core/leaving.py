"""Leaving at once after Ctrl-C, also where cleaning up would wait for ever.

Python raises KeyboardInterrupt between any two instructions of the main thread, also within the few by which `threading`
takes or gives back a lock; whoever waits for that lock afterwards waits without end. What is on the disk survives any end
of the process, so that a limit on the cleaning costs nothing but a partial file, which the next writer removes.
"""

import atexit
import os
import signal
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import NoReturn

from ml_playground.core.standard_error import say_at_once

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C ended, as shells know it."""
CLEANS_UP_WITHIN_S = 8.0
"""What remains of the ten seconds in which a program promises to leave."""
ALARMS = 4
"""The limit passes in so many parts: where the machine stands still, the alarms of that time come as one, and the cleaning has
the rest of its time."""


class _Limit:
    """Hears the alarms since Ctrl-C."""

    def __init__(self) -> None:
        self.heard = 0

    def begin(self) -> None:
        """From here on the time runs; also of a second Ctrl-C, anew."""
        self.heard = 0
        signal.setitimer(signal.ITIMER_REAL, CLEANS_UP_WITHIN_S / ALARMS, CLEANS_UP_WITHIN_S / ALARMS)

    def receive(self, _number: int, _frame: FrameType | None) -> None:
        """The handler of alarms: the last one ends the process."""
        self.heard += 1
        if self.heard >= ALARMS:
            say_at_once("\nerror: interrupted; cleaning up took too long and was left undone.\n")
            os._exit(INTERRUPTED)

    def end(self) -> None:
        """The time runs no more."""
        if self.is_set:
            signal.setitimer(signal.ITIMER_REAL, 0)

    @property
    def is_set(self) -> bool:
        """Whether alarms are ours."""
        return signal.getsignal(signal.SIGALRM) == self.receive


_limit = _Limit()


def limit_cleaning() -> None:
    """What is `interruptible` leaves within `CLEANS_UP_WITHIN_S` after Ctrl-C; for a program, not for who uses us as a library."""
    signal.signal(signal.SIGALRM, _limit.receive)
    # Afterwards the interpreter hears no alarms, and the next one would kill what only gives its memory back.
    atexit.register(_limit.end)


@contextmanager
def interruptible() -> Generator[None]:
    """Within, Ctrl-C raises KeyboardInterrupt, and the cleaning is limited; where `limit_cleaning` did not say so, nothing changes."""
    former = signal.getsignal(signal.SIGINT)
    # A shell that started it in the background has Ctrl-C ignored.
    if not (_limit.is_set and callable(former)):
        yield
        return
    signal.signal(signal.SIGINT, leave_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


@contextmanager
def interrupted_afterwards() -> Generator[None]:
    """Ctrl-C and SIGTERM that come within are answered when it is over: for lines between which what was begun would be lost.

    Of both the one that asks for more is answered, SIGTERM. In the main thread alone, as all of `signal`.
    """
    came: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    with ExitStack() as over:
        over.callback(lambda: came and signal.raise_signal(max(came)))
        for number in (signal.SIGINT, signal.SIGTERM):
            over.callback(signal.signal, number, signal.signal(number, remember))
        yield


def leave_at_once(_number: int, _frame: FrameType | None) -> NoReturn:
    """A handler of signals: leave by KeyboardInterrupt, and where `limit_cleaning` said so, soon without.

    Raises:
        KeyboardInterrupt: Always.
    """
    if _limit.is_set:
        _limit.begin()
    raise KeyboardInterrupt


def stay() -> None:
    """Whoever has answered a KeyboardInterrupt and goes on after it has all the time again."""
    _limit.end()
