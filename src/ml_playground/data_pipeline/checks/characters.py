"""Characters that no text should hold: controls, byte order marks, halves of pairs, replacements, mojibake. Pure: bytes in, faults out."""

import re
from collections.abc import Iterator

from ml_playground.data_pipeline.checks.findings import Fault
from ml_playground.data_pipeline.checks.mojibake import SCREEN, runs

# All but tab, line feed, form feed (which parts pages in old sources) and carriage return.
CONTROLS = bytes(sorted({*range(0x20), 0x7F} - {0x09, 0x0A, 0x0C, 0x0D}))
_CONTROL = re.compile(b"[" + re.escape(CONTROLS) + b"]+")
_UPPER_CONTROLS = re.compile(rb"(?:\xc2[\x80-\x9f])+")
_SURROGATES = re.compile(rb"(?:\xed[\xa0-\xbf][\x80-\xbf])+")
# What begins with a fixed byte is searched for ten times faster than a group of it.
_UPPER_CONTROL = re.compile(rb"\xc2[\x80-\x9f]")
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")
_MARK = b"\xef\xbb\xbf"
_REPLACEMENT = b"\xef\xbf\xbd"
_REPLACEMENTS = re.compile(b"(?:" + _REPLACEMENT + b")+")


def character_faults(passage: bytes) -> list[Fault]:
    """What is wrong with the characters of a passage, by position.

    Args:
        passage: UTF-8; halves of surrogate pairs may be in it, written as three bytes each.
    """
    found: list[Fault] = []
    if len(passage.translate(None, CONTROLS)) != len(passage):
        found += _controls(passage)
    if not passage.isascii():
        found += _beyond_ascii(passage)
    return sorted(found, key=lambda fault: fault.start)


def _controls(passage: bytes) -> Iterator[Fault]:
    for match in _CONTROL.finditer(passage):
        code = "nul" if b"\0" in match[0] else "control_character"
        yield Fault(code, _named(sorted(set(match[0]))), match.start(), match.end())


def _named(numbers: list[int]) -> str:
    return ", ".join(f"U+{number:04X}" for number in numbers[:4])


def _beyond_ascii(passage: bytes) -> Iterator[Fault]:
    rest = passage
    if SCREEN.search(passage):
        mojibake = list(_mojibake(passage))
        yield from mojibake
        # A control that is the tail of mojibake is mended with it.
        rest = _without(passage, mojibake)
    if _UPPER_CONTROL.search(rest):
        for match in _UPPER_CONTROLS.finditer(rest):
            numbers = sorted({ord(letter) for letter in match[0].decode()})
            yield Fault("control_character", _named(numbers), match.start(), match.end())
    if _MARK in passage:
        for match in re.finditer(_MARK, passage):
            yield Fault("byte_order_mark", "", match.start(), match.end())
    if _REPLACEMENT in passage:
        for match in _REPLACEMENTS.finditer(passage):
            yield Fault("replacement_character", "", match.start(), match.end())
    if _SURROGATE.search(passage):
        for match in _SURROGATES.finditer(passage):
            half = match[0].decode("utf-8", "surrogatepass")[0]
            yield Fault("lone_surrogate", f"U+{ord(half):04X}", match.start(), match.end())


def _without(passage: bytes, faults: list[Fault]) -> bytes:
    """The passage with blanks where the faults are."""
    rest = bytearray(passage)
    for fault in faults:
        rest[fault.start : fault.end] = b" " * (fault.end - fault.start)
    return bytes(rest)


def _mojibake(passage: bytes) -> Iterator[Fault]:
    text = passage.decode("utf-8", "surrogatepass")
    index = offset = 0
    for run in runs(text):
        start = offset + len(text[index : run.start].encode("utf-8", "surrogatepass"))
        end = start + len(text[run.start : run.end].encode())
        yield Fault("mojibake", f"would be {run.mended!r}", start, end)
        index, offset = run.end, end
