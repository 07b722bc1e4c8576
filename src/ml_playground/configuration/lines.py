"""The line of every key in a TOML or JSON text that a parser has accepted; the parsers of the standard library know none."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

TOKEN = re.compile(
    r"""
      (?P<text> \"\"\"(?:\\.|[^\\])*?\"{3,5} | '''.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*' )
    | (?P<comment> \#[^\n]* )
    | (?P<newline> \n )
    | (?P<mark> [\[\]{}=:,.] )
    | (?P<bare> [A-Za-z0-9_-]+ )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(slots=True)
class _Level:
    """An open table or list: where it lies, and whether a key may come next."""

    path: tuple[str, ...] | None
    """None inside lists, whose entries have no keys of their own."""
    is_table: bool
    key_next: bool


def json_lines(text: str) -> Mapping[tuple[str, ...], int]:
    """Path of each key -> its line, counted from 1. Keys inside lists are left out."""
    found: dict[tuple[str, ...], int] = {}
    _scan_value(_tokens(text), found, (), separator=":")
    return found


def toml_lines(text: str) -> Mapping[tuple[str, ...], int]:
    """Path of each key -> its line, counted from 1. Keys inside lists are left out."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    tokens = _tokens(text)
    name: list[str] = []
    header = False
    for kind, word, line in tokens:
        if kind == "mark" and word == "[":
            header = True
        elif kind in ("text", "bare"):
            name.append(_key(kind, word, "="))
        elif kind == "newline" and header:
            table, name, header = tuple(name), [], False
        elif kind == "mark" and word == "]":
            found[tuple(name)] = line
        elif kind == "mark" and word == "=":
            path = (*table, *name)
            found[path] = line
            name = []
            _scan_value(tokens, found, path, separator="=")
    return found


def _scan_value(
    tokens: Iterator[tuple[str, str, int]], found: dict[tuple[str, ...], int], path: tuple[str, ...], separator: str
) -> None:
    """Read one value, to the end of its line or of the text, and note the keys of the tables in it."""
    levels: list[_Level] = []
    name: list[str] = []
    child: tuple[str, ...] | None = path
    for kind, word, line in tokens:
        top = levels[-1] if levels else None
        if kind == "newline" and not levels and separator == "=":
            return
        if kind in ("text", "bare") and top and top.key_next:
            name.append(_key(kind, word, separator))
        elif kind != "mark":
            continue
        elif word in "{[":
            levels.append(_Level(child if word == "{" else None, word == "{", word == "{"))
            child = None if word == "[" else child
        elif word in "}]" and levels:
            levels.pop()
            name = []
        elif word == separator and top and top.key_next:
            child = None if top.path is None else (*top.path, *name)
            if child is not None:
                found[child] = line
            top.key_next, name = False, []
        elif word == "," and top:
            top.key_next = top.is_table
            child = None


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    line = 1
    for match in TOKEN.finditer(text):
        kind, word = match.lastgroup or "other", match.group()
        if kind != "comment":
            yield kind, word, line
        line += word.count("\n")


def _key(kind: str, word: str, separator: str) -> str:
    """The name that a key's word stands for."""
    if kind == "bare" or "\\" not in word:
        return word if kind == "bare" else word[1:-1]
    return str(json.loads(word) if separator == ":" else tomllib.loads(f"v = {word}")["v"])
