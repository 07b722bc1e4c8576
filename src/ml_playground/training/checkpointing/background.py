"""One call at a time beside the training, on a thread of its own that ends with the call."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

from ml_playground.core.side_threads import SideThread

ResultT = TypeVar("ResultT")

NICENESS = 10
"""The thread gets a tenth of a core that training wants too, and all of one that is idle."""


class Background(Generic[ResultT]):
    """Where a call runs and its result waits. The interpreter does not exit before the call has ended."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._call: tuple[SideThread, Future[ResultT]] | None = None

    def start(self, call: Callable[[], ResultT], *, hurry: bool = False) -> None:
        """Begin a call; the result of the one before it must have been taken. In a `hurry` it does not step back for others.

        Where the machine has no room for another thread, the call is over when this returns.
        """
        thread = SideThread(self._name, None if hurry else _step_back)
        self._call = thread, thread.submit(call)
        thread.close(wait=False)

    @property
    def busy(self) -> bool:
        """Whether a call is under way."""
        return self._call is not None and not self._call[1].done()

    def take(self) -> ResultT | None:
        """Wait for the call to end; its result, once. None where there is nothing to take.

        Raises what the call raised.
        """
        if self._call is None:
            return None
        thread, future = self._call
        # An interrupt may come here: the call stays ours until it has ended.
        wait([future])
        thread.close()
        self._call = None
        return future.result()


def _step_back() -> None:
    # Only Linux has priorities of threads; what the thread starts itself inherits its own.
    if sys.platform == "linux":
        # A process that was started with more (`nice -n 19`) may not take less, and would not want to.
        niceness = max(os.getpriority(os.PRIO_PROCESS, 0), NICENESS)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
