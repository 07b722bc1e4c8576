"""Threads beside the work that are a help, not a need: where the machine has no room for one more, the work is done without it.

Memory that is short (a thread's stack takes 8 MB of addresses) and limits on the number of tasks refuse a thread at any moment;
a run that saves its weights must not end for that.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


def started(thread: Thread) -> bool:
    """Start a thread; false where the machine has no room for it."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


class SideThread:
    """Calls on one thread in their order; where no thread can be started, each at once on that of whoever asks."""

    def __init__(self, name: str = "", initializer: Callable[[], None] | None = None) -> None:
        """`initializer` is called on the new thread first."""
        self._executor: ThreadPoolExecutor | None = ThreadPoolExecutor(
            1, thread_name_prefix=name, initializer=initializer
        )

    def submit(self, call: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> Future[ResultT]:
        """The result that is to come; where there is no thread, what goes wrong with a call is raised here."""
        if self._executor is not None:
            try:
                return self._executor.submit(call, *args, **kwargs)
            except RuntimeError:
                # It keeps the call that it could not begin, and must not make it later.
                self._executor.shutdown(wait=False, cancel_futures=True)
                self._executor = None
        made: Future[ResultT] = Future()
        made.set_result(call(*args, **kwargs))
        return made

    def close(self, *, wait: bool = True) -> None:
        """Take no more calls; those that have not begun are cancelled where nobody waits for them."""
        if self._executor is not None:
            self._executor.shutdown(wait=wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
