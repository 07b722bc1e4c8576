"""Leaving at once after Ctrl-C, also where cleaning up would wait for ever.

Python raises KeyboardInterrupt between any two instructions of the main thread, also within the few by which `threading`
takes or gives back a lock; whoever waits for that lock afterwards waits without end. What is on the disk survives any end
of the process, so that a limit on the cleaning costs nothing but a partial file, which the next writer removes.
"""

import os
import signal
from types import FrameType
from typing import NoReturn

from ml_playground.core.standard_error import say_at_once

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C ended, as shells know it."""
CLEANS_UP_WITHIN_S = 8.0
"""What remains of the ten seconds in which a program promises to leave."""


def limit_cleaning() -> None:
    """From here on this process leaves within `CLEANS_UP_WITHIN_S` after Ctrl-C; for a program, not for who uses us as a library."""
    signal.signal(signal.SIGALRM, _too_late)
    # A shell that started it in the background has Ctrl-C ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave_at_once)


def leave_at_once(_number: int, _frame: FrameType | None) -> NoReturn:
    """A handler of signals: leave by KeyboardInterrupt, and where `limit_cleaning` said so, soon without.

    Raises:
        KeyboardInterrupt: Always.
    """
    if signal.getsignal(signal.SIGALRM) is _too_late:
        signal.setitimer(signal.ITIMER_REAL, CLEANS_UP_WITHIN_S)
    raise KeyboardInterrupt


def _too_late(_number: int, _frame: FrameType | None) -> NoReturn:
    say_at_once("\nerror: interrupted; cleaning up took too long and was left undone.\n")
    os._exit(INTERRUPTED)
