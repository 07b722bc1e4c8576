"""JSON Lines, a line at a time: bounded in length and depth, strict, and exact about where a row is wrong.

A row of someone else's file is read without executing or allocating what it says: lines are cut at `MOST_LINE_BYTES`, nesting at
`DEEPEST_JSON`, numbers at what a float holds; a key that stands twice and NaN, which JSON lacks, are errors.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, NoReturn, cast

from ml_playground.core.error_handling import DataError
from ml_playground.core.foreign_files import DEEPEST_JSON

MOST_LINE_BYTES = 1 << 24
"""Longest row that is read: 16 MiB are some four million tokens, a hundred times the longest chats there are."""
MOST_DIGITS = 400
"""Of a whole number: more than a float's range; Python would refuse only beyond 4,300."""

RowCode = Literal[
    "row_too_long",
    "wrong_encoding",
    "broken_json",
    "nested_too_deep",
    "no_json_number",
    "duplicate_key",
    "not_an_object",
    "unknown_shape",
    "bad_message",
]

# Strings, brackets, words and numbers, one after the other; possessive, so that a string of megabytes needs no memory.
_TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]|[-+.\w]++', re.DOTALL)

_KINDS: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


class RowError(DataError):
    """A row cannot be read; the text says why, `column` where in the line (from 1) if that is known."""

    def __init__(self, code: RowCode, reason: str, column: int | None = None) -> None:
        super().__init__(reason if column is None else f"column {column}: {reason}")
        self.code: RowCode = code
        self.column = column


class Line(NamedTuple):
    """A line of a file, without its line feed."""

    number: int
    """From 1."""
    offset: int
    """Bytes of the file before it."""
    raw: bytes
    """Its bytes; of a line longer than the limit, the first of them."""
    size_bytes: int
    """Of the whole line."""
    ended: bool
    """Whether a line feed ends it; only the last one may lack it."""


def lines(blocks: Iterable[bytes], most_bytes: int = MOST_LINE_BYTES) -> Iterator[Line]:
    """The lines of a file that is read in blocks; no more than a block and `most_bytes` are held."""
    number, offset, size_bytes = 1, 0, 0
    kept: list[bytes] = []
    for block in blocks:
        *whole, rest = block.split(b"\n")
        for piece in whole:
            if size_bytes:
                size_bytes += len(piece)
                kept.append(piece)
                yield Line(number, offset, b"".join(kept)[:most_bytes], size_bytes, ended=True)
                kept.clear()
            else:
                size_bytes = len(piece)
                yield Line(number, offset, piece[:most_bytes], size_bytes, ended=True)
            number, offset, size_bytes = number + 1, offset + size_bytes + 1, 0
        if rest:
            if size_bytes < most_bytes:
                kept.append(rest)
            size_bytes += len(rest)
    if size_bytes:
        yield Line(number, offset, b"".join(kept)[:most_bytes], size_bytes, ended=False)


def parse_row(raw: bytes) -> dict[str, Any]:
    """The object that a line holds; a byte order mark before it is skipped.

    Raises:
        RowError: It is no UTF-8, no JSON, no object, nested too deep, or holds a key twice or a number that is none.
    """
    try:
        text = raw.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        column = len(error.object[: error.start].decode()) + 1
        got = f"0x{error.object[error.start]:02x}"
        raise RowError("wrong_encoding", f"byte {got} is no UTF-8 ({error.reason})", column) from error
    if text.count("{") + text.count("[") > DEEPEST_JSON:
        _check_depth(text)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        if "\0" in text:
            raise RowError("wrong_encoding", "it holds NUL, as UTF-16 and binary files do", error.pos + 1) from error
        if text.strip() == "[":
            raise RowError(
                "not_an_object", "a list over many lines is not JSON Lines; write one object a line", 1
            ) from error
        raise RowError("broken_json", _words(error), error.pos + 1) from error
    except _NumberError as error:
        raise RowError("no_json_number", error.reason, _column_of(text, error.token)) from error
    if not isinstance(value, dict):
        raise RowError("not_an_object", f"the row is {kind_words(value)}, not an object in braces", 1)
    return cast(dict[str, Any], value)


def kind_words(value: object) -> str:
    """What kind of JSON value it is."""
    return _KINDS.get(type(value), "a number")


class _NumberError(Exception):
    """A number that JSON lacks, or that no float holds."""

    def __init__(self, token: str, reason: str) -> None:
        super().__init__(reason)
        self.token, self.reason = token, reason


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once; else the reader would keep the last one and drop the others in silence."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RowError("duplicate_key", f"the key {key[:80]!r} stands twice in one object")
        found[key] = value
    return found


def _constant(token: str) -> NoReturn:
    raise _NumberError(token, f"{token} is no JSON")


def _whole_number(token: str) -> int:
    if len(token) > MOST_DIGITS:
        raise _NumberError(token, f"a number of {len(token)} digits")
    return int(token)


def _float(token: str) -> float:
    value = float(token)
    if value in {float("inf"), float("-inf")}:
        raise _NumberError(token, f"the number {token[:40]} is too large")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_whole_number, parse_float=_float
)


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKENS.finditer(text):
        if token[0] in {"{", "["}:
            depth += 1
            if depth > DEEPEST_JSON:
                raise RowError(
                    "nested_too_deep", f"more than {DEEPEST_JSON} brackets inside each other", token.start() + 1
                )
        elif token[0] in {"}", "]"}:
            depth -= 1


def _column_of(text: str, token: str) -> int | None:
    """Where a number stands, outside of strings."""
    return next((found.start() + 1 for found in _TOKENS.finditer(text) if found[0] == token), None)


def _words(error: json.JSONDecodeError) -> str:
    """What the parser says, and what it met."""
    met = error.doc[error.pos : error.pos + 1]
    return f"{error.msg}, got {met!r}" if met else f"{error.msg}, got the end of the line"
