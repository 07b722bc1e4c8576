"""A text in stretches of some 64 KiB that end where a paragraph does, if one does in time; where is decided by the text alone."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LEAST_BYTES = 1 << 16
MOST_BYTES = 1 << 18
BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")


class Stretch(NamedTuple):
    """A piece of a document."""

    line: int
    """Number of its first line, from 1."""
    offset: int
    """Bytes of the document before it."""
    data: bytes


def stretches(
    blocks: Iterable[bytes], least_bytes: int = LEAST_BYTES, most_bytes: int = MOST_BYTES
) -> Iterator[Stretch]:
    """The whole text, cut after the first blank line from `least_bytes` on, else after a line, else between two characters.

    However the text was read, the stretches are the same.
    """
    line, offset = 1, 0
    held = b""
    for block in blocks:
        held += block
        while end := _end(held, least_bytes, most_bytes):
            yield Stretch(line, offset, held[:end])
            line, offset, held = line + held.count(b"\n", 0, end), offset + end, held[end:]
    if held:
        yield Stretch(line, offset, held)


def _end(held: bytes, least_bytes: int, most_bytes: int) -> int:
    """Where the first stretch ends; 0 while that is not known."""
    blank = BLANK_LINE.search(held, least_bytes, most_bytes)
    if blank is not None:
        return blank.end()
    if len(held) < most_bytes:
        return 0
    if end := held.rfind(b"\n", 0, most_bytes) + 1:
        return end
    return _whole_characters(held, most_bytes)


def _whole_characters(held: bytes, most_bytes: int) -> int:
    """The end of the last character that is whole within the first bytes; all of them where they are no UTF-8."""
    start = most_bytes - 1
    while start > most_bytes - 4 and held[start] & 0xC0 == 0x80:  # noqa: PLR2004 - a tail byte of a character
        start -= 1
    length = 1 + sum(held[start] >= lead for lead in (0xC0, 0xE0, 0xF0))
    return start if start > 0 and start + length > most_bytes else most_bytes
