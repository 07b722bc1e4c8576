"""Text to token files in bounded memory: what is held at once is a batch of chunks, whatever the size of the text."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from ml_playground.core.tokenizer_protocol import Ids, Specials
from ml_playground.data_pipeline.ledger import SplitCounts
from ml_playground.data_pipeline.storage.token_file import FileAccount, TokenType, TokenWriter
from ml_playground.data_pipeline.transforms.split import Part

# What tokenizers do once a text (their tables of words, say) is spread over it, and its ids still fit the processor's cache.
CHUNK_CHARACTERS = 1 << 18
# Enough chunks for all cores; `tokenizers` keeps about 200 bytes for each token of a batch.
BATCH_CHARACTERS = 1 << 20

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

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


def in_order(
    threads: ThreadPoolExecutor, function: Callable[[ItemT], ResultT], items: Iterable[ItemT], at_once: int
) -> Iterator[tuple[ItemT, ResultT]]:
    """Each item with its result, in the order of the items; never more than `at_once` are held."""
    held: deque[tuple[ItemT, Future[ResultT]]] = deque()
    for item in items:
        held.append((item, threads.submit(function, item)))
        if len(held) >= at_once:
            first, future = held.popleft()
            yield first, future.result()
    for item, future in held:
        yield item, future.result()


def utf8_bytes(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


class DatasetWriter:
    """Writes encoded chunks into the token files of all splits, and counts."""

    def __init__(self, folder: Path, splits: Iterable[str], specials: Specials, name: TokenType) -> None:
        self._counts = {split: SplitCounts() for split in splits}
        self._end = np.array([] if specials.eos is None else [specials.eos], dtype=np.uint32)
        self._unknown = specials.unknown
        self._writers = {split: TokenWriter(folder, split, name) for split in self._counts}

    def write(self, batch: Sequence[Chunk], ids_of_chunks: Sequence[Ids]) -> None:
        """Append the ids of each chunk."""
        for chunk, ids in zip(batch, ids_of_chunks, strict=True):
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
