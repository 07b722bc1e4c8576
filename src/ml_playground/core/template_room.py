"""How much a template may make in one rendering, so that what it takes of the memory grows with what it is given alone."""

import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import Any, cast

from jinja2.utils import Namespace

from ml_playground.core.bounded_sizes import CONTAINERS, written_size

MOST_CHARACTERS = 1 << 20
"""Of each value that a rendering makes, beside `MOST_TIMES` its input; templates of families write a few thousand of their own."""
MOST_TIMES = 16
"""The same, for each character of the input: escaped twice, and with a little around it."""
MOST_VALUES = 32
"""Of that length, made by one rendering altogether: a text to which 500 messages are added one by one takes half."""
MOST_BITS = 100_000
"""Of a whole number; more than 14,000 cannot be written down."""
COMPARED = tuple(kind for kind in CONTAINERS if kind is not Namespace)
"""What is compared part by part; two namespaces are never equal, whatever they hold."""
_ITEM_BYTES = 64
_SHORT = 256
"""Characters of a text that is not counted: to keep many of them takes lists, which are."""


class TooLarge(Exception):  # noqa: N818 - what happened, not whose fault it is
    """A template makes more than any does that is right."""


def _inside(container: Any) -> Iterator[Any]:
    """The containers that stand in one, as keys or as values."""
    table = cast(dict[Any, Any], container) if isinstance(container, dict) else None
    found = cast(Iterable[Any], container) if table is None else chain(table, table.values())
    return (one for one in found if isinstance(one, COMPARED))


class Room:
    """What one rendering may make."""

    def __init__(self, input_characters: int = 0) -> None:
        self.most = MOST_CHARACTERS + MOST_TIMES * input_characters
        """Characters of one value."""
        self._left = MOST_VALUES * self.most
        self._nested: dict[int, tuple[Any, int]] = {}
        """Containers in which others stand, and their places; kept, so that no other one gets such an id."""

    def check(self, size: int) -> None:
        """Refuse a value of so many characters before it is made.

        Raises:
            TooLarge: It has no room.
        """
        if size > self.most:
            raise TooLarge

    def take(self, size_bytes: int) -> None:
        """Count what was made.

        Raises:
            TooLarge: It is too much altogether.
        """
        self._left -= size_bytes
        if self._left < 0:
            raise TooLarge

    def made(self, value: Any) -> Any:
        """The same value, counted: of a list the places, and the short texts that splitting one puts there."""
        if isinstance(value, str | bytes):
            if len(value) < _SHORT:
                return cast(Any, value)
            self.check(len(value))
            self.take(sys.getsizeof(value))
        elif isinstance(value, list | tuple | dict):
            self.take(_ITEM_BYTES * (1 + len(cast(list[Any], value))))
            self.check_nested(value)
        return cast(Any, value)

    def check_nested(self, value: Any) -> Any:
        """The same container; refused where others stand in it so often that comparing it would not end.

        Forty lines of `a = [a, a]` make a list of 40 lists, but one that is compared, or hashed, in 2 to the 40 places.

        Raises:
            TooLarge: It has more places than a value may have characters.
        """
        if any(True for _ in _inside(value)):
            self._count_places(value)
        return value

    def _count_places(self, container: Any) -> None:
        """Of a container and all that stand in it, each counted as often as it stands there."""
        total, waiting = 0, [container]
        while waiting:
            one = waiting.pop()
            if known := self._nested.get(id(one)):
                total += known[1]
            else:
                total += 1 + len(one)
                waiting.extend(_inside(one))
            self.check(total)
        if id(container) not in self._nested:
            self.take(_ITEM_BYTES)
            self._nested[id(container)] = container, total

    def check_written(self, value: Any) -> None:
        """Refuse a container that is too long as a text."""
        if not isinstance(value, str) and isinstance(value, CONTAINERS):
            self.check(written_size(value, self.most))


_ROOM: ContextVar[Room | None] = ContextVar("room", default=None)


def room() -> Room:
    """That of the rendering that goes on."""
    return _ROOM.get() or Room()


@contextmanager
def rendering_in(found: Room) -> Generator[None]:
    """Count what is made meanwhile."""
    token = _ROOM.set(found)
    try:
        yield
    finally:
        _ROOM.reset(token)
