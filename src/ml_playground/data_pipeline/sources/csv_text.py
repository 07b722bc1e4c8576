"""Rows of CSV files with a header, a row at a time: quoted line ends, delimiters and encodings as they come."""

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.core.humanise import plural
from ml_playground.core.values import Document
from ml_playground.data_pipeline.checks.encodings import SAMPLE_BYTES, fitting_encoding
from ml_playground.data_pipeline.source_counts import SourceCounts
from ml_playground.data_pipeline.source_protocol import Provenance
from ml_playground.data_pipeline.sources.columns import role_of
from ml_playground.data_pipeline.sources.file_list import FileList, ListedFile
from ml_playground.data_pipeline.sources.row_texts import BrokenRow, Row, RowTexts
from ml_playground.data_pipeline.sources.settings import CsvText
from ml_playground.data_pipeline.sources.text_pieces import ENCODING_KEY, binary, blocks, check_encoding, text_pieces

MOST_CHARACTERS = 1 << 24
"""Of a line, and of a cell: sixteen million, as for JSON; a quote that is never closed ends there."""
DELIMITERS = (",", ";", "\t", "|")

# No header of a table begins so: a quote inside a cell would be doubled, and the cell quoted.
_OBJECT = re.compile(r"\s*\{\s*\"")

_DEFAULT_PATTERN: str = CsvText.model_fields["pattern"].default
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"))
_SHORTER_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

# The library's own limit, of 131,072, is shorter than long speeches; it holds for the whole process.
csv.field_size_limit(MOST_CHARACTERS)


class Form(NamedTuple):
    """How a file is written."""

    encoding: str
    delimiter: str


class _BrokenHeaderError(DataError):
    """The first row cannot be read with this delimiter."""


class CsvRows:
    """The rows of all files, each a document."""

    def __init__(self, settings: CsvText) -> None:
        if settings.encoding is not None:
            check_encoding(settings.encoding)
        self._settings = settings
        self._list = FileList(settings.path, settings.pattern, _DEFAULT_PATTERN)
        self._texts = RowTexts(settings, str(settings.path), tables=True)

    def documents(self) -> Iterator[Document]:
        """Each row that has text; `FILE:LINE` is its id."""
        return self._texts.documents(row for file in self._list.files() for row in self._rows(file))

    def counts(self) -> SourceCounts:
        """Rows, and which of them were left out."""
        return self._texts.counts()

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of the files; how the first is read."""
        used, skipped = self._list.accounts()
        first = next(file for file in self._list.files() if file.name == used[0].name)
        form = self._form(first)
        columns = self._columns(_header(first, form), first)
        facts = {"path": str(self._settings.path), "encoding": form.encoding, "delimiter": form.delimiter}
        facts |= {f"column of {name}": column for name, column in columns.items() if column is not None}
        return Provenance(kind=self._settings.kind, files=used, skipped=skipped, facts=facts)

    def _rows(self, file: ListedFile) -> Iterator[Row | BrokenRow]:
        form = self._form(file)
        lines = _Lines(file, form.encoding)
        header: list[str] | None = None
        for record, line in _records(file, form, lines):
            where = f"{file.id}:{line}"
            if isinstance(record, str):
                yield BrokenRow(where, record, lines.taken())
            elif header is None:
                header = record
                self._columns(header, file)
            elif len(record) < len(header) or any(record[len(header) :]):
                reason = f"{plural(len(record), 'cell')}, where the header names {plural(len(header), 'column')}"
                yield BrokenRow(where, reason, sum(map(len, record)))
            else:
                yield Row(where, dict(zip(header, record, strict=False)))

    def _columns(self, header: Sequence[str], file: ListedFile) -> Mapping[str, str | None]:
        """Which column says what; a header that is none is refused with what the file may be instead."""
        return self._texts.columns(header, str(file.path), _other_form(header) if len(header) == 1 else "")

    def _form(self, file: ListedFile) -> Form:
        encoding = self._settings.encoding or _encoding_of(file)
        if _OBJECT.match(next(_Lines(file, encoding), "")):
            raise DataError(
                f"{file.path} is JSON Lines, not CSV: its first line begins with an object in braces. "
                "Set prepare.source.kind = 'jsonl_text'."
            )
        return Form(encoding, self._settings.delimiter or _delimiter_of(file, encoding))


class _Lines:
    """The lines of a file with their ends, and how many characters were taken since it was last asked."""

    def __init__(self, file: ListedFile, encoding: str) -> None:
        # Of no method of ours: a file that is left in its midst would stay open, with 900 kB of it, until the collector comes by.
        self._lines = _read(file.path, encoding)
        self._taken = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._taken += len(line)
        return line

    def taken(self) -> int:
        """Characters since the last call."""
        taken, self._taken = self._taken, 0
        return taken


def _read(path: Path, encoding: str) -> Iterator[str]:
    held: list[str] = []
    held_characters = number = 0
    for place, text in enumerate(text_pieces(path, encoding, takes_nul=True)):
        # Before a quote the mark of UTF-8 would keep it from being one.
        *whole, rest = (text if place else text.removeprefix("\ufeff")).split("\n")
        for line in whole:
            yield "".join([*held, line, "\n"])
            held.clear()
            held_characters, number = 0, number + 1
        held.append(rest)
        held_characters += len(rest)
        if held_characters > MOST_CHARACTERS:
            raise DataError(
                f"{path}:{number + 1}: the line has more than {MOST_CHARACTERS:,} characters; this is no "
                "table of rows. Name a CSV file in prepare.source.path."
            )
    if held_characters:
        yield "".join(held)


def build(settings: CsvText, deps: Deps) -> CsvRows:
    """The source; the files are looked for when it is read.

    Raises:
        ConfigError: The encoding is unknown.
    """
    del deps
    return CsvRows(settings)


def _records(file: ListedFile, form: Form, lines: _Lines) -> Iterator[tuple[list[str] | str, int]]:
    """Each record with the line where it begins; in place of a broken one what is wrong with it. Blank lines are none.

    Raises:
        DataError: The very header is broken, or holds NUL.
    """
    reader = csv.reader(lines, delimiter=form.delimiter, strict=True)
    begun = False
    while True:
        line = reader.line_num + 1
        try:
            record: list[str] | str = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            record = _words(error, reader.line_num - line + 1)
            if not begun:
                raise _BrokenHeaderError(f"{file.path}:{line}: the header cannot be read: {record}.") from error
        if record:
            if not begun and any("\0" in cell for cell in record):
                raise binary(file.path, form.encoding, 0)
            begun = True
            yield record, line
        if not isinstance(record, str):
            lines.taken()


def _header(file: ListedFile, form: Form) -> list[str]:
    """The names of the columns; none where the file holds nothing but blank lines."""
    return list(next((record for record, _ in _records(file, form, _Lines(file, form.encoding))), ""))


def _other_form(header: Sequence[str]) -> str:
    """What a file may be whose header is a single cell."""
    found = next((delimiter for delimiter in DELIMITERS if delimiter in header[0]), None)
    if found is not None and any(role_of(name) for name in header[0].split(found)):
        return f" The header holds {found!r}: perhaps that is its prepare.source.delimiter."
    return " If the file is plain text without a header, set prepare.source.kind = 'text_file'."


def _words(error: csv.Error, lines: int) -> str:
    """What the parser says, in words for whoever has the file before them."""
    text = str(error)
    if "field limit" in text:
        return f"a cell has more than {MOST_CHARACTERS:,} characters; a quote that opens here is never closed"
    if "unexpected end" in text:
        return f"a quote that opens here is never closed; the file ends {plural(lines, 'line')} later"
    if "new-line" in text:
        return "it holds a carriage return outside quotes; end lines with a line feed"
    return f"{text}; a quote inside a quoted cell is written twice"


def _encoding_of(file: ListedFile) -> str:
    """What the beginning of a file is written in.

    Raises:
        DataError: Nothing that is known.
    """
    sample = next(blocks(file.path), b"")[:SAMPLE_BYTES]
    for mark, name in (*_MARKS, *_SHORTER_MARKS):
        if sample.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(sample)
    except UnicodeDecodeError as error:
        found = fitting_encoding(sample)
        if found is None:
            raise DataError(
                f"{file.path} is no UTF-8 (byte 0x{sample[error.start]:02x} at offset {error.start}), and looks like no "
                f"other encoding that is known; set {ENCODING_KEY} to what it is written in."
            ) from error
        return found
    return "utf-8"


def _delimiter_of(file: ListedFile, encoding: str) -> str:
    """What makes most columns of the header that mean something; of equal ones what makes most columns."""
    best, most = DELIMITERS[0], (0, 1)
    for delimiter in DELIMITERS:
        try:
            names = _header(file, Form(encoding, delimiter))
        except _BrokenHeaderError:
            # Quotes are where this delimiter lets none be.
            continue
        score = (len({role_of(name) for name in names} - {None}), len(names))
        if score > most and len(names) > 1:
            best, most = delimiter, score
    return best
