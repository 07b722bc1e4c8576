"""Reads TOML, JSON and YAML into plain tables, and remembers the line of every key."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ml_playground.configuration.lines import json_lines, toml_lines
from ml_playground.configuration.schema import KeyPath, dotted
from ml_playground.core.error_handling import ConfigError

# A job has some hundred keys, four levels deep. What is larger by orders is no job, and would only cost time or the stack.
LARGEST_BYTES = 1 << 20
MOST_VALUES = 20_000
DEEPEST = 20

LARGEST_INTEGER = (1 << 63) - 1
"""TOML's own; of more digits nothing can be computed, and Python refuses to print what has thousands."""

# tomllib takes the square of the parts of a key in time: a megabyte of `a.a.a` would take hours. A quantifier with a second
# `+` never gives back what it took, so that this search itself is done in one pass.
MOST_PARTS = 100
_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
_ENDLESS_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MOST_PARTS}}}")


@dataclass(frozen=True, slots=True)
class Document:
    """A table of plain values, and where its keys stand."""

    table: dict[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict[KeyPath, int])


def read_document(file: Path) -> Document:
    """The table in a file; its suffix says how to read it.

    Raises:
        ConfigError: No such file, another suffix, too large, not UTF-8, bad syntax, or values that no setting can have.
    """
    readers = {".toml": _toml, ".json": _json, ".yaml": _yaml, ".yml": _yaml}
    if file.suffix.lower() not in readers:
        raise ConfigError(
            f"{file}: a configuration file ends in {', '.join(readers)}; got {file.suffix or 'no suffix'!r}"
        )
    try:
        if not file.is_file():
            raise ConfigError(f"{file}: {'is a folder; name a file in it' if file.is_dir() else 'no such file'}")
        with file.open("rb") as stream:
            data = stream.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    if len(data) > LARGEST_BYTES:
        raise ConfigError(f"{file}: is larger than {LARGEST_BYTES} bytes; a configuration has some hundred lines")
    try:
        # Editors on Windows begin UTF-8 files with a byte order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file}, line {line}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    return vetted(readers[file.suffix.lower()](text, str(file)), str(file))


def _yaml(text: str, where: str) -> Document:
    from ml_playground.configuration.yaml_format import read_yaml  # noqa: PLC0415 - 20 ms that most commands do not need

    return read_yaml(text, where)


def read_json(text: str, where: str) -> dict[str, Any]:
    """The JSON object in a text that is no file."""
    return vetted(_json(text, where), where).table


def vetted(document: Document, where: str) -> Document:
    """The document, if each of its values can be a setting.

    Raises:
        ConfigError: Too deep, too many values, a date, or text that is not Unicode; names the key.
    """
    for count, (path, value) in enumerate(_walk(document.table)):
        line = document.lines.get(path)
        place = f"{where}, line {line}" if line else where
        if count >= MOST_VALUES:
            raise ConfigError(f"{where}: holds more than {MOST_VALUES} values; a job has some hundred")
        if len(path) > DEEPEST:
            raise ConfigError(f"{place}: {dotted(path[:3])}... is nested deeper than {DEEPEST} levels")
        texts = [path[-1], value] if isinstance(value, str) else [path[-1]]
        if any(_is_broken(text) for text in texts):
            raise ConfigError(f"{place}: {dotted(path)!a} holds half a surrogate pair, which is not Unicode text")
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise ConfigError(f"{place}: {dotted(path)} is a number beyond 2^63 - 1; no setting takes one")
        if not isinstance(value, str | bool | int | float | list | dict | None):
            raise ConfigError(
                f"{place}: {dotted(path)} is a date or a time; no setting takes one, quote it to make it text"
            )
    return document


def _walk(table: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    """Every value in it, tables and lists too; no recursion, for its depth is what is to be checked."""
    waiting: list[tuple[KeyPath, Any]] = [((name,), value) for name, value in table.items()]
    while waiting:
        path, value = waiting.pop()
        yield path, value
        if isinstance(value, dict):
            waiting.extend(((*path, name), entry) for name, entry in cast(dict[str, Any], value).items())
        elif isinstance(value, list):
            waiting.extend(((*path, str(index)), entry) for index, entry in enumerate(cast(list[Any], value)))


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def parsed_toml(text: str) -> dict[str, Any]:
    """The table in a TOML text.

    Raises:
        ValueError: It is no TOML, is nested too deeply, or holds a key without end.
    """
    if _ENDLESS_KEY.search(text):
        raise ValueError(f"more than {MOST_PARTS} words are joined by dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _toml(text: str, where: str) -> Document:
    try:
        return Document(parsed_toml(text), toml_lines(text))
    except ValueError as error:
        raise ConfigError(f"{where}: is not valid TOML: {error}") from error


def _json(text: str, where: str) -> Document:
    try:
        table = json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ConfigError(f"{where}: is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}, line {error.lineno}: is not valid JSON: {error.msg}") from error
    except ValueError as error:
        raise ConfigError(f"{where}: is not valid JSON: {error}") from error
    if not isinstance(table, dict):
        raise ConfigError(f'{where}: must be a JSON object such as {{"train": {{...}}}}; got {as_word(table)}')
    return Document(cast(dict[str, Any], table), json_lines(text))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"the key {name!r} stands twice in one table")
        table[name] = value
    return table


def as_word(value: Any) -> str:
    """A value that is no table, as a message names it."""
    return "a list" if isinstance(value, list) else f"{value!r:.60}"
