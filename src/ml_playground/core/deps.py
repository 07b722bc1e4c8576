"""What reaches out of the process: time, the network, the user's wish to stop. Everything else is real in tests too."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import BinaryIO, Protocol, cast


class Clock(Protocol):
    """The time of day, and a counter for durations."""

    def now(self) -> datetime:
        """The time of day, in UTC."""
        ...

    def tick(self) -> float:
        """Seconds since some fixed moment; never runs backwards."""
        ...


class RefusedAddressError(OSError):
    """An address that is not opened, however often it is tried."""


class Fetch(Protocol):
    """Turns an address into a stream of bytes."""

    def __call__(self, url: str, *, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """Open `url` and yield its bytes from byte `start` on.

        Raises:
            OSError: The address did not answer, or answered with an error.
        """
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return datetime.now(UTC)

    def tick(self) -> float:
        """Seconds of the monotonic counter."""
        return time.monotonic()


class UrlFetch:
    """Reads http, https and file addresses with the standard library."""

    def __init__(self, timeout_seconds: float = 30.0) -> None:
        self._timeout_seconds = timeout_seconds

    def __call__(self, url: str, *, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """Open `url` at byte `start`; a server that ignores the range is read past the start."""
        from ml_playground.core.fetching import opened  # noqa: PLC0415 - 20 ms, with TLS, that only a download needs

        headers = {"User-Agent": "ml-playground"} | ({"Range": f"bytes={start}-"} if start else {})
        reply = opened(url, headers, self._timeout_seconds)
        if start and reply.status != HTTPStatus.PARTIAL_CONTENT:
            try:
                remaining = start
                while remaining and (skipped := len(reply.read(min(remaining, 1 << 20)))):
                    remaining -= skipped
            except BaseException:
                reply.close()
                raise
        return cast(AbstractContextManager[BinaryIO], reply)


def never() -> bool:
    """Nobody asks to stop."""
    return False


@dataclass(frozen=True, slots=True)
class Deps:
    """The seams to the outside, handed to a job beside its settings."""

    clock: Clock = field(default_factory=SystemClock)
    fetch: Fetch = field(default_factory=UrlFetch)
    stop_requested: Callable[[], bool] = never
    """Asked after each step of a process, and before each batch of an evaluation; true after Ctrl-C or SIGTERM."""
    sleep: Callable[[float], None] = time.sleep
    """Waits for seconds, between two tries of a download."""
