"""From rows to documents: the row's text in the template, what has no text left out and counted, what is broken named."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import islice
from pathlib import PurePath
from typing import Any, NamedTuple, cast

from ml_playground.core.error_handling import DataError
from ml_playground.core.humanise import plural
from ml_playground.core.registry import did_you_mean
from ml_playground.core.values import Document
from ml_playground.data_pipeline.source_counts import Counter, LeftOut, SourceCounts
from ml_playground.data_pipeline.sources.columns import CONTENT, NAMES, check_columns, found_columns, listed
from ml_playground.data_pipeline.sources.settings import RowSettings
from ml_playground.data_pipeline.sources.templates import Template

_YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)")
# Of different sets of keys, in rows that need not be alike; more are looked up anew.
_KEPT_SHAPES = 1_000
# Of a row, looked through for what was meant.
_MOST_PATHS = 1_000


class Row(NamedTuple):
    """One row of a table, or one object."""

    id: str
    """Of the document: its file and line, or number."""
    cells: Mapping[str, Any]


class BrokenRow(NamedTuple):
    """A row that cannot be read."""

    where: str
    """File and line."""
    reason: str
    characters: int
    """That are lost with it."""


class RowTexts:
    """Makes documents of rows, and counts."""

    def __init__(self, settings: RowSettings, where: str, *, tables: bool) -> None:
        """Prepare for rows.

        Args:
            settings: Columns, template, and what is done with broken rows.
            where: The files, for messages.
            tables: Whether all rows of a file have the same columns, so that one that is missing is an error.
        """
        self._settings = settings
        self._where = where
        self._tables = tables
        self._template = Template(settings.template)
        self._shapes: dict[tuple[str, ...], Mapping[str, str | None]] = {}
        self._seen: set[str] = set()
        self._keys: tuple[str, ...] = ()
        self._has_content = False
        self._counts: SourceCounts | None = None

    def counts(self) -> SourceCounts:
        """Of the last time that all rows were read."""
        return self._counts or SourceCounts()

    def columns(self, names: Sequence[str], where: str, hint: str = "") -> Mapping[str, str | None]:
        """What the template asks for, and the column that says it; None where there is none.

        Args:
            names: All columns.
            where: The file, for messages.
            hint: What else may be wrong where a column is missing.

        Raises:
            DataError: Two columns may be meant, or one that is needed is not there.
            ConfigError: The settings name one that is not there.
        """
        found = found_columns(names, self._settings, where)
        wanted: dict[str, str | None] = {CONTENT: found.get(CONTENT)}
        for name in self._template.names:
            role = "date" if name == "year" else name
            wanted[name] = found.get(role) if role in NAMES else name
        if self._tables:
            check_columns(names, wanted, where, hint)
        return wanted

    def documents(self, rows: Iterable[Row | BrokenRow]) -> Iterator[Document]:
        """A document for each row that has text.

        Raises:
            DataError: A row is broken, and the settings say stop; or no row has text.
        """
        counter = Counter()
        self._seen.clear()
        self._has_content = False
        some = False
        for row in rows:
            counter.found += 1
            made = self._made(row) if isinstance(row, Row) else row
            if isinstance(made, BrokenRow):
                if self._settings.broken_rows == "stop":
                    raise DataError(
                        f"{self._placed(made.where)}: {made.reason}. Mend the row, or leave such rows out and have them counted: "
                        "--set prepare.source.broken_rows=skip."
                    )
                counter.leave_out("broken", made.where, made.characters)
            elif not made.text:
                counter.leave_out("no_content", made.id, 0)
            else:
                some = True
                yield made
        self._check_all_was_there(some, counter.counts())
        self._counts = counter.counts()

    def _placed(self, where: str) -> str:
        """A file and line as they are found; a file that is the whole source is named once."""
        file, _, line = where.rpartition(":")
        return f"{self._where}:{line}" if PurePath(self._where).name == file else f"{where} in {self._where}"

    def _check_all_was_there(self, some: bool, counts: SourceCounts) -> None:
        """Refuse a source without text, and settings that no row has anything for."""
        rows, broken = counts.found, counts.left_out.get("broken", LeftOut())
        if not rows:
            raise DataError(f"{self._where} has no rows; name a file with some in prepare.source.path.")
        if broken.documents == rows:
            raise DataError(
                f"{self._where} has {plural(rows, 'row')}, none of which can be read (the first is {broken.places[0]}); "
                "set prepare.source.broken_rows = 'stop' to see why."
            )
        keys = f"the first has {listed(self._keys)}"
        chosen = self._settings.content_column
        if chosen is not None and not some and not self._has_content:
            raise DataError(
                f"prepare.source.content_column = {chosen!r} is in no row of {self._where}{did_you_mean(chosen, self._keys)} "
                f"({keys})."
            )
        if not some:
            raise DataError(
                f"{self._where} has {plural(rows, 'row')}, none of them with a text; {keys}. "
                "Set prepare.source.content_column."
            )
        missing = [name for name in self._template.names if name not in self._seen]
        if missing:
            raise DataError(
                f"No row of {self._where} has anything for {{{missing[0]}}} in prepare.source.template; {keys}. "
                f"Correct the name, or leave it out."
            )

    def _made(self, row: Row) -> Document | BrokenRow:
        """A document, without text where the row has none; or what is wrong."""
        names = tuple(row.cells)
        columns = self._shapes.get(names)
        if columns is None:
            self._keys = self._keys or tuple(islice(_paths(row.cells), _MOST_PATHS))
            columns = self.columns(names, row.id)
            if len(self._shapes) >= _KEPT_SHAPES:
                self._shapes.clear()
            self._shapes[names] = columns
        content = _at(row.cells, columns[CONTENT])
        self._has_content = self._has_content or content is not None
        if content is not None and not isinstance(content, str):
            return BrokenRow(row.id, f"{columns[CONTENT]!r} is {type(content).__name__}, not text", 0)
        if content is None or not content.strip():
            return Document(row.id, "")
        values: dict[str, str] = {}
        for name in self._template.names:
            column = columns[name]
            values[name] = content if column == columns[CONTENT] else _words(_at(row.cells, column), name)
            if values[name]:
                self._seen.add(name)
        text = self._template.filled(values)
        problem = _no_text(text)
        return BrokenRow(row.id, problem, len(text)) if problem else Document(row.id, text)


def _paths(cells: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Each key that holds no keys itself, behind those that lead to it."""
    for key, value in cells.items():
        if isinstance(value, Mapping) and value:
            yield from _paths(cast(Mapping[str, Any], value), f"{above}{key}.")
        else:
            yield f"{above}{key}"


def _at(cells: Mapping[str, Any], column: str | None) -> Any:
    """The value of a column; of one that is not there, what a path of keys joined by dots leads to."""
    if column is None:
        return None
    if column in cells:
        return cells[column]
    value: Any = cells
    for key in column.split("."):
        value = cast(Mapping[str, Any], value).get(key) if isinstance(value, Mapping) else None
    return value


def _words(value: Any, name: str) -> str:
    """A value that is not the text itself, on one line."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(word for item in cast(Sequence[Any], value) if (word := _words(item, name)))
    if isinstance(value, Mapping):
        pairs = ((key, _words(item, name)) for key, item in cast(Mapping[str, Any], value).items())
        return ", ".join(words if name == "year" else f"{key}: {words}" for key, words in pairs if words)
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float):
        # Tables that went through pandas have years like 1999.0, and NaN where there is nothing.
        text = str(int(value)) if value.is_integer() else "" if math.isnan(value) else str(value)
    else:
        text = value.isoformat() if isinstance(value, date) else str(value)
    if name == "year":
        found = _YEAR.search(text)
        return found[0] if found else ""
    return " ".join(text.split())


def _no_text(text: str) -> str:
    """What is wrong with it as text; empty where nothing is."""
    if "\0" in text:
        return "it holds NUL, which no text does"
    if text.isascii():
        return ""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"it holds half a surrogate pair ({text[error.start]!r}), which is no character"
    return ""
