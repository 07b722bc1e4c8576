"""Text to token files in bounded memory: what is held at once is a batch of chunks, whatever the size of the text."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Self

import numpy as np

from ml_playground.core.tokenizer_protocol import BulkTokenizer, Ids
from ml_playground.data_pipeline.ledger import SplitCounts
from ml_playground.data_pipeline.storage.token_file import FileAccount, TokenType, TokenWriter
from ml_playground.data_pipeline.transforms.split import Part

# 64 k characters: their ids fit the processor's cache, which makes the char table three times as fast as 256 k do.
CHUNK_CHARACTERS = 1 << 16
# Enough chunks for all cores; `tokenizers` keeps about 200 bytes for each token of a batch.
BATCH_CHARACTERS = 1 << 20

SafeCut = Callable[[str, int], int | None]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of one document in one split, cut where the tokenizer allows it."""

    split: str
    text: str
    starts: bool
    """Whether the document's part in this split begins here."""
    ends: bool
    """Whether the document ends here."""


def cut(texts: Iterable[str], safe_cut: SafeCut, size: int = CHUNK_CHARACTERS) -> Iterator[str]:
    """The same text in chunks of at least `size` characters (the last one may be shorter), cut only at safe places.

    Where there is no safe place the chunk grows: equal ids come before bounded memory.
    """
    rest, searched = "", 0
    for text in texts:
        rest += text
        start = 0
        while len(rest) - start > size:
            at = safe_cut(rest, max(start + size, searched))
            if at is None or at >= len(rest):
                searched = len(rest)
                break
            yield rest[start:at]
            start = at
        searched = max(0, searched - start)
        rest = rest[start:]
    if rest:
        yield rest


def chunks(parts: Iterable[Part], safe_cut: SafeCut, size: int = CHUNK_CHARACTERS) -> Iterator[Chunk]:
    """Join the pieces of each document within a split and cut them anew; chunks do not depend on how pieces were cut."""
    for (split, _), group in groupby(parts, key=lambda part: (part.split, part.document)):
        ends = [False]
        held, starts = "", True
        for text in cut(_texts(group, ends), safe_cut, size):
            if held:
                yield Chunk(split, held, starts, ends=False)
                starts = False
            held = text
        yield Chunk(split, held, starts, ends[0])


def _texts(group: Iterable[Part], ends: list[bool]) -> Iterator[str]:
    """The texts of parts; leaves in `ends` whether the last one ended its document."""
    for part in group:
        ends[0] = part.ends
        yield part.text


def batches(stream: Iterable[Chunk], characters: int = BATCH_CHARACTERS) -> Iterator[list[Chunk]]:
    """Groups of chunks that together hold about so many characters."""
    batch: list[Chunk] = []
    held = 0
    for chunk in stream:
        batch.append(chunk)
        held += len(chunk.text)
        if held >= characters:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def utf8_bytes(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


class DatasetWriter:
    """Encodes batches of chunks into the token files of all splits, and counts."""

    def __init__(self, folder: Path, splits: Iterable[str], tokenizer: BulkTokenizer, name: TokenType) -> None:
        self._tokenizer = tokenizer
        self._counts = {split: SplitCounts() for split in splits}
        specials = tokenizer.specials
        self._end = np.array([] if specials.eos is None else [specials.eos], dtype=np.uint32)
        self._unknown = specials.unknown
        self._writers = {split: TokenWriter(folder, split, name) for split in self._counts}

    def write(self, batch: list[Chunk]) -> None:
        """Encode and append."""
        for chunk, ids in zip(batch, self._tokenizer.encode_arrays([chunk.text for chunk in batch]), strict=True):
            writer = self._writers[chunk.split]
            if chunk.starts:
                writer.start_document()
            writer.add(ids)
            mark = self._end if chunk.ends else self._end[:0]
            writer.add(mark)
            old = self._counts[chunk.split]
            self._counts[chunk.split] = SplitCounts(
                documents=old.documents + chunk.starts,
                characters=old.characters + len(chunk.text),
                bytes=old.bytes + utf8_bytes(chunk.text),
                text_tokens=old.text_tokens + len(ids),
                unknown_tokens=old.unknown_tokens + self._unknown_among(ids),
                end_marks=old.end_marks + len(mark),
            )

    def _unknown_among(self, ids: Ids) -> int:
        return 0 if self._unknown is None else int(np.count_nonzero(ids == self._unknown))

    @property
    def counts(self) -> Mapping[str, SplitCounts]:
        """What was written so far, by split."""
        return dict(self._counts)

    def accounts(self) -> dict[str, FileAccount]:
        """Size and hash of all files, by name; after closing."""
        return {name: account for writer in self._writers.values() for name, account in writer.accounts().items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with ExitStack() as files:
            for writer in self._writers.values():
                files.callback(writer.close)
