"""Text to token files in bounded memory: what is held at once is a batch of chunks, whatever the size of the text."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from ml_playground.core.side_threads import SideThread
from ml_playground.core.tokenizer_protocol import Ids, Tokenizer
from ml_playground.data_pipeline.ledger import SplitCounts
from ml_playground.data_pipeline.lost_places import Place, WorstPlaces, unknown_text
from ml_playground.data_pipeline.storage.token_file import FileAccount, TokenType, TokenWriter
from ml_playground.data_pipeline.survey import utf8_bytes
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
    document: int
    """Its number in the source."""
    offset: int
    """Characters of the source before it."""


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
    for (split, document), group in groupby(parts, key=lambda part: (part.split, part.document)):
        first = next(group)
        newest = [first]
        held, offset = "", first.offset
        for text in cut(_texts(chain(newest[:], group), newest), safe_cut, size):
            if held:
                yield Chunk(split, held, offset == first.offset, ends=False, document=document, offset=offset)
                offset += len(held)
            held = text
        yield Chunk(split, held, offset == first.offset, newest[0].ends, document, offset)


def _texts(group: Iterable[Part], newest: list[Part]) -> Iterator[str]:
    """The texts of parts; leaves the last one in `newest`."""
    for part in group:
        newest[0] = part
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
    threads: ThreadPoolExecutor | SideThread, function: Callable[[ItemT], ResultT], items: Iterable[ItemT], at_once: int
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


@dataclass(slots=True)
class _Tally:
    """`SplitCounts` that grow: validating them for each chunk would take longer than counting."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0
    text_tokens: int = 0
    unknown_tokens: int = 0
    unknown_bytes: int = 0
    end_marks: int = 0


class DatasetWriter:
    """Writes encoded chunks into the token files of all splits, and counts; what is in no split is only counted."""

    def __init__(self, folder: Path, splits: Iterable[str], tokenizer: Tokenizer, name: TokenType) -> None:
        specials = tokenizer.specials
        self._end = np.array([] if specials.eos is None else [specials.eos], dtype=np.uint32)
        self._unknown = specials.unknown
        self._token_bytes = np.array([] if specials.unknown is None else tokenizer.token_bytes(), dtype=np.int64)
        self._writers = {split: TokenWriter(folder, split, name) for split in splits}
        self._tallies = {split: _Tally() for split in self._writers}
        self._worst = WorstPlaces()

    def write(self, batch: Sequence[Chunk], ids_of_chunks: Sequence[Ids]) -> None:
        """Append the ids of each chunk."""
        for chunk, ids in zip(batch, ids_of_chunks, strict=True):
            mark = self._end if chunk.ends else self._end[:0]
            if (writer := self._writers.get(chunk.split)) is not None:
                if chunk.starts:
                    writer.start_document()
                writer.add(ids)
                writer.add(mark)
            tally = self._tallies.setdefault(chunk.split, _Tally())
            tally.documents += chunk.starts
            tally.characters += len(chunk.text)
            tally.bytes += utf8_bytes(chunk.text)
            tally.text_tokens += len(ids)
            tally.end_marks += len(mark)
            if self._unknown is not None and (unknown := int(np.count_nonzero(ids == self._unknown))):
                tally.unknown_tokens += unknown
                tally.unknown_bytes += self._lost(chunk, ids, self._unknown)

    def _lost(self, chunk: Chunk, ids: Ids, unknown: int) -> int:
        """Bytes of a chunk that no id stands for; where they are is remembered if they are in a split."""
        before, lost = unknown_text(chunk.text, ids, self._token_bytes, unknown)
        if chunk.split in self._writers:
            self._worst.add(Place(chunk.split, chunk.document, chunk.offset + before, lost))
        return lost

    @property
    def counts(self) -> Mapping[str, SplitCounts]:
        """What was written so far, by split."""
        return {name: SplitCounts(**asdict(tally)) for name, tally in self._tallies.items() if name in self._writers}

    @property
    def dropped(self) -> Mapping[str, SplitCounts]:
        """What was only counted, by where it went instead of a split."""
        return {
            name: SplitCounts(**asdict(tally)) for name, tally in self._tallies.items() if name not in self._writers
        }

    @property
    def worst_places(self) -> Sequence[Place]:
        """Where the tokenizer does not know the text, most first."""
        return self._worst.worst()

    def accounts(self) -> dict[str, FileAccount]:
        """Size and hash of all files, by name; after closing."""
        return {name: account for writer in self._writers.values() for name, account in writer.accounts().items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with ExitStack() as files:
            for writer in self._writers.values():
                files.callback(writer.close)
