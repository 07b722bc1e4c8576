"""One pass over texts: characters, degenerate stretches, and what is needed to find what stands there twice."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.checks.characters import character_faults
from ml_playground.data_pipeline.checks.degenerate import (
    MOST_LINES,
    repeated_characters,
    repeated_lines,
    repeats_itself,
)
from ml_playground.data_pipeline.checks.encodings import SAMPLE_BYTES, fitting_encoding
from ml_playground.data_pipeline.checks.findings import Fault
from ml_playground.data_pipeline.checks.fingerprints import KEY_BYTES, FingerprintTable, digest
from ml_playground.data_pipeline.checks.inputs import Input
from ml_playground.data_pipeline.checks.stretches import BLANK_LINE, Stretch, stretches

WHITE_SPACE = b" \t\n\r\x0b\x0c"
LEAST_PARAGRAPH_BYTES = 200
"""Shorter ones are headings, speeches of one word, files with one line; they are not compared."""
LONG_LINE_BYTES = 100_000
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


class TextFault(NamedTuple):
    """A fault with its place in a document."""

    fault: Fault
    line: int
    """From 1; for a fault of the whole document the first."""
    offset: int
    """Bytes of the document before it."""
    passage: bytes
    """What `fault.start` counts in."""


@dataclass(slots=True)
class DocumentScan:
    """What is remembered of a document from stretch to stretch."""

    name: str
    first_row: int
    """Lines of all documents before it."""
    characters: int = 0
    lines: int = 1
    size_bytes: int = 0
    fingerprint: bytes = bytes(KEY_BYTES)
    """Of all its bytes, once it was read to its end."""
    has_text: bool = False
    has_letters: bool = False
    encoding: str | None = None
    """That fits where it is not UTF-8; none: it was not needed yet."""
    last_line: dict[str, int] = field(default_factory=dict[str, int])
    """The line in which each code was met last."""
    line_bytes: int = 0
    """Of a line that began in an earlier stretch."""
    marks: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """For each stretch: characters of the document before it, and the number of its first line."""
    ends: list[int] = field(default_factory=lambda: [0, 0])
    """Lines that end with LF alone, and with CR LF."""


def scan_document(
    document: Input, seen: DocumentScan, documents: FingerprintTable, paragraphs: FingerprintTable
) -> Iterator[TextFault]:
    """Everything that is wrong with one document by itself; its prints are added to the tables.

    Args:
        document: What is read.
        seen: Empty, but for name and first row; filled on the way.
        documents: For each document of at least as many bytes, the digest without white space and one of all bytes.
        paragraphs: For each paragraph of `LEAST_PARAGRAPH_BYTES`, the digest without white space, and its bytes.
    """
    exact, spaceless = blake2b(digest_size=KEY_BYTES), blake2b(digest_size=KEY_BYTES)
    try:
        for stretch in stretches(document.blocks()):
            if not stretch.offset and (fault := _not_text(stretch.data)):
                yield TextFault(fault, 1, 0, b"")
                return
            exact.update(stretch.data)
            spaceless.update(stretch.data.translate(None, WHITE_SPACE))
            yield from _stretch_faults(stretch, seen)
            yield from _paragraph_faults(stretch, seen, paragraphs)
    except DataError as error:
        yield TextFault(Fault("unreadable", str(error)), seen.lines, seen.size_bytes, b"")
        return
    seen.fingerprint = exact.digest()
    if seen.size_bytes >= LEAST_PARAGRAPH_BYTES and seen.has_text:
        documents.add(spaceless.digest(), int.from_bytes(seen.fingerprint[:8], "little"), seen.first_row, 0)
    for fault in _document_faults(seen):
        yield TextFault(fault, 1, 0, b"")


def _not_text(start: bytes) -> Fault | None:
    """The one fault of a document whose lines would each be one, and none say what to do."""
    if name := _not_bytewise(start):
        return Fault("wrong_encoding", f"it is {name}")
    if b"\0" not in start[:SAMPLE_BYTES]:
        return None
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(start)
    except UnicodeDecodeError:
        return Fault("nul", "the file is binary")
    return None


def _not_bytewise(start: bytes) -> str | None:
    """The encoding of a document whose very line feeds are no bytes of their own."""
    marked = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE))
    if not marked and b"\0" not in start[:SAMPLE_BYTES]:
        return None
    name = fitting_encoding(start[:SAMPLE_BYTES])
    return name if name is not None and name.startswith(("utf-16", "utf-32")) else None


def _stretch_faults(stretch: Stretch, seen: DocumentScan) -> Iterator[TextFault]:
    """Faults of lines, each code once a line; then those of the whole stretch."""
    data = stretch.data
    seen.marks.append((seen.characters, stretch.line))
    text, faults = _readable(data, seen)
    faults += character_faults(text)
    faults += repeated_characters(text)
    faults.sort(key=lambda fault: fault.start)
    line, at = stretch.line, 0
    for fault in faults:
        line, at = line + data.count(b"\n", at, fault.start), fault.start
        if seen.last_line.get(fault.code) != line:
            seen.last_line[fault.code] = line
            yield TextFault(fault, line, stretch.offset + fault.start, data)
    if repeats_itself(data):
        yield TextFault(Fault("repeats_itself"), stretch.line, stretch.offset, data)
    yield from _long_lines(stretch, seen)
    crlf = data.count(b"\r\n")
    line_feeds = data.count(b"\n")
    seen.ends[0] += line_feeds - crlf
    seen.ends[1] += crlf
    seen.lines += line_feeds
    seen.size_bytes += len(data)


def _readable(data: bytes, seen: DocumentScan) -> tuple[bytes, list[Fault]]:
    """The bytes with blanks for the lines that are no UTF-8, and a fault for each of those."""
    if data.isascii():
        seen.characters += len(data)
        text = data.decode()
        faults: list[Fault] = []
    else:
        try:
            text, faults = data.decode(), []
        except UnicodeDecodeError:
            data, faults = _blanked(data, seen)
            text = data.decode()
            # What cannot be read may well be letters.
            seen.has_text = seen.has_letters = True
        seen.characters += len(text)
    seen.has_text = seen.has_text or not text.isspace()
    seen.has_letters = seen.has_letters or _LETTER_OR_DIGIT.search(text) is not None
    return data, faults


def _blanked(data: bytes, seen: DocumentScan) -> tuple[bytes, list[Fault]]:
    if seen.encoding is None:
        seen.encoding = fitting_encoding(data[:SAMPLE_BYTES]) or "none that we know"
    rows: list[bytes] = []
    faults: list[Fault] = []
    start = 0
    for row in data.split(b"\n"):
        try:
            row.decode()
            rows.append(row)
        except UnicodeDecodeError as error:
            at = start + error.start
            note = f"byte 0x{data[at]:02x}; the encoding that fits: {seen.encoding}"
            faults.append(Fault("wrong_encoding", note, at, start + error.end))
            rows.append(b" " * len(row))
        start += len(row) + 1
    return b"\n".join(rows), faults


def _long_lines(stretch: Stretch, seen: DocumentScan) -> Iterator[TextFault]:
    """Each line is reported in the stretch in which it becomes too long."""
    data, before = stretch.data, seen.line_bytes
    if before + len(data) > LONG_LINE_BYTES:
        start, line = 0, stretch.line
        for row in data.split(b"\n"):
            if before <= LONG_LINE_BYTES < before + len(row):
                yield TextFault(Fault("long_line"), line, stretch.offset + start - before, row)
            start, line, before = start + len(row) + 1, line + 1, 0
    last = data.rfind(b"\n") + 1
    seen.line_bytes = len(data) - last + (0 if last else seen.line_bytes)


def _paragraph_faults(stretch: Stretch, seen: DocumentScan, paragraphs: FingerprintTable) -> Iterator[TextFault]:
    data, line, at = stretch.data, stretch.line, 0
    ends = [match.start() for match in BLANK_LINE.finditer(data)]
    start = 0
    for end in [*ends, len(data)]:
        if end - start >= MOST_LINES:
            body = data[start:end].lstrip(WHITE_SPACE)
            first = end - len(body)
            line, at = line + data.count(b"\n", at, first), first
            if len(body) >= LEAST_PARAGRAPH_BYTES:
                key = digest(body.translate(None, WHITE_SPACE))
                paragraphs.add(key, len(body), seen.first_row + line - 1, stretch.offset + first)
            for fault in repeated_lines(body):
                place = first + fault.start
                moved = fault._replace(start=place, end=first + fault.end)
                yield TextFault(moved, line + data.count(b"\n", first, place), stretch.offset + place, data)
        start = end


def _document_faults(seen: DocumentScan) -> Iterator[Fault]:
    if not seen.has_text:
        yield Fault("empty_document", f"{seen.size_bytes:,} bytes")
    elif not seen.has_letters:
        yield Fault("no_letters", f"{seen.characters:,} characters")
    if all(seen.ends):
        yield Fault("mixed_line_ends", f"{seen.ends[0]:,} lines end with LF, {seen.ends[1]:,} with CR LF")
