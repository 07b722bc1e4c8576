"""The rows of prepared data as a person looks at them: each token, its text, and what it weighs as a target. Free of torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ml_playground.configuration.base import Component
from ml_playground.core.error_handling import DataError
from ml_playground.core.stream_decoder import StreamDecoder
from ml_playground.core.tokenizer_protocol import Tokenizer, marks_of
from ml_playground.data_pipeline.chats.chat_dataset import PreparedChats
from ml_playground.data_pipeline.manifest import Prepared
from ml_playground.data_pipeline.sampling.cutting import cut
from ml_playground.data_pipeline.sampling.examples import Examples, names_of
from ml_playground.data_pipeline.sampling.fitting_rows import check_fit
from ml_playground.data_pipeline.sampling.packing import best_fit_decreasing
from ml_playground.data_pipeline.settings import ExampleRows, PaddedExamples, TokenWindows
from ml_playground.data_pipeline.text_dataset import PreparedText

Ids = NDArray[np.uint16 | np.uint32]


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A token of a row."""

    id: int
    text: str
    """What it adds to the text; empty where a later token completes its character."""
    weight: float
    """As a target; 0: it is read, and never one."""
    special: bool
    """Whether it is a mark and no text: so it is spelled in templates."""


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """A chat in a row, or a part of it; of a text the stretch that a window holds."""

    name: str
    first_token: int
    """Of the chat, or of the split, that stands here."""
    whole: int
    """Tokens of the chat, or of the split."""
    tokens: tuple[ShownToken, ...]


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row of batches, as training reads it."""

    number: int
    """Among the rows of its split, before an epoch shuffles them."""
    documents: tuple[ShownDocument, ...]
    padding: int
    """Positions that hold no token."""

    @property
    def targets(self) -> int:
        """Tokens that are targets."""
        return sum(token.weight > 0 for document in self.documents for token in document.tokens)


@dataclass(frozen=True, slots=True)
class _Part:
    """Where the tokens of a document lie."""

    name: str
    first_token: int
    whole: int
    ids: Ids
    weights: NDArray[np.float32]


class _Layout(Protocol):
    """What lies in which row."""

    def __len__(self) -> int: ...

    def parts(self, number: int) -> list[_Part]:
        """The documents of a row."""
        ...

    def padding(self, number: int) -> int:
        """Its positions that hold no token."""
        ...

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each chat of the split, or of each window."""
        ...


class ShownRows:
    """The rows of a split, one after the other."""

    def __init__(self, layout: _Layout, tokenizer: Tokenizer) -> None:
        self._layout = layout
        self._decode = tokenizer.decode
        self._spelled = {index: text for text, index in marks_of(tokenizer).items()}
        silent = [index for index, size in enumerate(tokenizer.token_bytes()) if not size]
        # What nobody spells and no text comes of would not be seen at all.
        self._spelled |= {
            index: f"<|{index}|>" for index in silent if not self._spelled.get(index, self._decode([index]))
        }

    def __len__(self) -> int:
        """How many there are."""
        return len(self._layout)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each chat of the split, or of each window."""
        return self._layout.lengths

    def __getitem__(self, number: int) -> ShownRow:
        """A row."""
        documents = tuple(
            ShownDocument(part.name, part.first_token, part.whole, self._tokens(part))
            for part in self._layout.parts(number)
        )
        return ShownRow(number, documents, self._layout.padding(number))

    def _tokens(self, part: _Part) -> tuple[ShownToken, ...]:
        ids: list[int] = part.ids.tolist()
        # What stands first in a row is foretold from nothing.
        weights: list[float] = [0.0, *part.weights[1:].tolist()]
        texts = texts_of(ids, self._decode, self._spelled)
        return tuple(
            ShownToken(index, text, weight, index in self._spelled)
            for index, text, weight in zip(ids, texts, weights, strict=True)
        )


def texts_of(ids: Sequence[int], decode: Callable[[Sequence[int]], str], spelled: dict[int, str]) -> list[str]:
    """The text that each id adds; joined they are the whole, special tokens as they are spelled.

    Args:
        ids: Of a document.
        decode: Ids to text.
        spelled: Special ids by how templates spell them.
    """
    texts: list[str] = []
    decoder = StreamDecoder(decode)
    for index in ids:
        if index in spelled:
            rest = decoder.finish()
            decoder = StreamDecoder(decode)
            if rest and texts:
                texts[-1] += rest
                rest = ""
            texts.append(rest + spelled[index])
        else:
            texts.append(decoder.add(index))
    if texts:
        texts[-1] += decoder.finish()
    return texts


def rows_to_show(prepared: Prepared, split: str, data: Component | None, tokenizer: Tokenizer) -> ShownRows:
    """The rows that a kind of data makes of a split; without one chats are whole, and texts in windows of 256 tokens.

    Raises:
        DataError: There is no such split, it holds no tokens, or chats that are too long.
    """
    prepared.check_split(split)
    if isinstance(prepared, PreparedChats):
        return ShownRows(_chats(prepared, split, data if isinstance(data, ExampleRows) else None), tokenizer)
    if isinstance(prepared, PreparedText):
        settings = data if isinstance(data, TokenWindows) else TokenWindows()
        return ShownRows(_WindowLayout(prepared, split, settings.sequence_tokens), tokenizer)
    raise DataError(f"{prepared.folder} holds no tokens that could be shown, but {type(prepared.manifest).unit}s.")


def _chats(prepared: PreparedChats, split: str, settings: ExampleRows | None) -> "_ChatLayout":
    examples = prepared.rows(split)
    if settings is None:
        longest = max(1, int(examples.lengths.max(initial=1)) - 1)
        settings = PaddedExamples(sequence_tokens=longest)
    check_fit(prepared.folder, {split: examples}, settings)
    return _ChatLayout(prepared.folder, split, examples, settings)


class _ChatLayout:
    """Chats in rows: one each, or packed."""

    def __init__(self, folder: Path, split: str, examples: Examples, settings: ExampleRows) -> None:
        self._folder, self._split, self._examples = folder, split, examples
        self._length = settings.sequence_tokens
        self._cut = cut(examples, settings.sequence_tokens, settings.truncation)
        self._bins = best_fit_decreasing(self._cut.positions, settings.sequence_tokens) if settings.packs else None
        self.lengths = examples.lengths

    def __len__(self) -> int:
        return len(self._cut.rows if self._bins is None else self._bins)

    def parts(self, number: int) -> list[_Part]:
        pieces = self._pieces(number)
        chats: list[int] = self._cut.rows[pieces].tolist()
        names = names_of(self._folder, self._split, chats)
        found: list[_Part] = []
        for piece, chat, name in zip(pieces.tolist(), chats, names, strict=True):
            first, length = int(self._cut.firsts[piece]), int(self._cut.lengths[piece])
            here = slice(first, first + length)
            offset = first - int(self._examples.starts[chat])
            whole = int(self._examples.lengths[chat])
            found.append(_Part(name, offset, whole, self._examples.tokens[here], self._examples.token_weights[here]))
        return found

    def padding(self, number: int) -> int:
        # How long a row of its own is filled up depends on its batch.
        return 0 if self._bins is None else self._length - int(self._cut.positions[self._pieces(number)].sum())

    def _pieces(self, number: int) -> NDArray[np.int64]:
        return np.array([number]) if self._bins is None else self._bins.members_of(number)


class _WindowLayout:
    """Windows of a text: all tokens but the first are targets."""

    def __init__(self, prepared: PreparedText, split: str, sequence_tokens: int) -> None:
        self._tokens = prepared.tokens(split)
        self._split, self._length = split, sequence_tokens
        targets = max(0, len(self._tokens) - 1)
        starts = np.arange(0, targets, sequence_tokens, dtype=np.int64)
        self.lengths = np.minimum(sequence_tokens, targets - starts) + 1

    def __len__(self) -> int:
        return len(self.lengths)

    def parts(self, number: int) -> list[_Part]:
        first = number * self._length
        ids = self._tokens[first : first + int(self.lengths[number])]
        return [_Part(self._split, first, len(self._tokens), ids, np.ones(len(ids), dtype=np.float32))]

    def padding(self, number: int) -> int:
        return self._length + 1 - int(self.lengths[number])
