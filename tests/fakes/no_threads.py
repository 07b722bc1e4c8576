"""A machine on which no thread can be started, for real: each would get a stack that no memory holds."""

import threading
from collections.abc import Generator
from contextlib import contextmanager

TOO_MUCH_BYTES = 1 << 47
"""More than the addresses of a process."""


@contextmanager
def no_threads() -> Generator[None]:
    """Inside, starting a thread fails as it does where memory or the number of tasks is at its limit."""
    former = threading.stack_size(TOO_MUCH_BYTES)
    try:
        yield
    finally:
        threading.stack_size(former)
