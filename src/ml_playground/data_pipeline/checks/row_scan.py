"""What is wrong with one line of a JSON Lines file by itself, and what is needed to compare it with the others. Pure."""

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.checks.characters import character_faults
from ml_playground.data_pipeline.checks.degenerate import repeated_characters
from ml_playground.data_pipeline.checks.encodings import fitting_encoding
from ml_playground.data_pipeline.checks.findings import Fault
from ml_playground.data_pipeline.checks.fingerprints import digest, short_digest
from ml_playground.data_pipeline.checks.table import CHECKS
from ml_playground.data_pipeline.checks.text_scan import WHITE_SPACE
from ml_playground.data_pipeline.checks.turns import chat_faults
from ml_playground.data_pipeline.sources.chat_rows import TEXT_ROLE, chat_of, with_words
from ml_playground.data_pipeline.sources.jsonl_chat import check_whole
from ml_playground.data_pipeline.sources.jsonl_rows import MOST_LINE_BYTES, Line, RowError, parse_row
from ml_playground.data_pipeline.sources.preference_rows import BETTER, WORSE, preference_of

# What can smuggle a control character or half a pair into text that is plain ASCII as it stands in the file.
_ESCAPES = re.compile(rb"\\[ubf]")


def whatever_it_is(row: Mapping[str, Any], row_id: str) -> ChatExample:
    """A preference, a chat or a text, as a row of nobody knows which experiment may be.

    Raises:
        RowError: It is none.
    """
    return preference_of(row, row_id) if BETTER in row and WORSE in row else chat_of(row, row_id)


class RowReader(NamedTuple):
    """How rows are read: as whoever prepares them does, where that is known."""

    chat_of: Callable[[Mapping[str, Any], str], ChatExample] = whatever_it_is
    refusal: Callable[[ChatExample], str | None] = lambda chat: None
    """Why a chat cannot be trained on, by the template, the profile and the weights of an experiment."""


ANY_ROW = RowReader()


class RowPrint(NamedTuple):
    """What a chat is compared by."""

    key: bytes
    """Digest of all words, without white space."""
    exact: int
    """Digest of all words."""
    prompt: bytes | None
    """Digest of all that stands before the last answer, without white space; None: it asks nothing."""
    answer: int
    """Digest of the last answer, without white space."""
    characters: int
    """Of all messages."""
    ratio: float | None
    """Characters of the answers for each of the questions; None where one side is missing."""
    answer_characters: int


class RowScan(NamedTuple):
    """A line, looked at."""

    faults: tuple[Fault, ...]
    """One for each code."""
    passage: bytes
    """What the faults' positions count in: the messages as `role: content`; of a row that cannot be read its bytes."""
    print: RowPrint | None
    """None where it cannot be read."""


def scan_row(line: Line, reader: RowReader = ANY_ROW) -> RowScan:
    """Everything that is wrong with a line by itself."""
    raw = line.raw
    if not raw or raw.isspace():
        return RowScan((Fault("blank_line"),), b"", None)
    if line.size_bytes > len(raw):
        note = f"{line.size_bytes:,} bytes; the limit is {MOST_LINE_BYTES:,}"
        return RowScan((Fault("row_too_long", note),), raw[:200], None)
    try:
        row = parse_row(raw)
        chat = reader.chat_of(row, "")
    except RowError as error:
        return RowScan((_unreadable(raw, error),), raw, None)
    said = replace(chat, messages=tuple(map(with_words, chat.messages)), rejected=tuple(map(with_words, chat.rejected)))
    pieces = [_written(message) for message in said.messages]
    passage = b"\n".join(pieces)
    faults = chat_faults(said)
    if not raw.isascii() or _ESCAPES.search(raw):
        faults += character_faults(passage)
        if raw.startswith(codecs.BOM_UTF8):
            faults.append(Fault("byte_order_mark", "at the start of the file" if line.number == 1 else ""))
    faults += repeated_characters(passage)
    if b"\\ud" in raw.lower():
        faults += _halves(row)
    if not any(CHECKS[fault.code].severity == "error" for fault in faults) and (reason := reader.refusal(chat)):
        faults.append(Fault("refused", reason))
    if len(faults) > 1:
        faults = list({fault.code: fault for fault in reversed(faults)}.values())
    return RowScan(tuple(faults), passage, _print(said, pieces, passage))


def _halves(row: Mapping[str, Any]) -> list[Fault]:
    """Half a surrogate pair beside the messages, which no data set could keep either."""
    try:
        check_whole(row)
    except RowError as error:
        return [Fault("lone_surrogate", str(error))]
    return []


def _written(message: Message) -> bytes:
    """A message as one text."""
    return f"{message.role}: {message.content}".encode("utf-8", "surrogatepass")


def _unreadable(raw: bytes, error: RowError) -> Fault:
    note = str(error)
    if error.code == "wrong_encoding" and (b"\0" not in raw or fitting_encoding(raw)):
        note += f"; the encoding that fits: {fitting_encoding(raw) or 'none that we know'}"
    start = 0
    if error.column is not None:
        text = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
        start = len(raw) if error.column > len(text) else len(text[: error.column - 1].encode())
    return Fault(error.code, note, min(start, len(raw)), min(start, len(raw)))


def _print(chat: ChatExample, pieces: list[bytes], passage: bytes) -> RowPrint:
    total = asked = said = last = 0
    for place, message in enumerate(chat.messages):
        size = len(message.content)
        total += size
        if message.role == "assistant":
            said, last = said + size, place
        elif message.role == "user" and not message.content.isspace():
            asked += size
    # Between messages stands what no text holds: a message that quotes a chat is not that chat.
    key = digest(b"\0".join(pieces).translate(None, WHITE_SPACE))
    prompt, answer = None, 0
    if len(pieces) == 1 and chat.messages[0].role == TEXT_ROLE:
        # A text is compared with other texts as a whole.
        prompt = key
    elif last and asked:
        prompt = digest(b"\0".join(pieces[:last]).translate(None, WHITE_SPACE))
        answer = short_digest(pieces[last].translate(None, WHITE_SPACE))
    ratio = said / asked if said and asked else None
    return RowPrint(key, short_digest(passage), prompt, answer, total, ratio, said)
