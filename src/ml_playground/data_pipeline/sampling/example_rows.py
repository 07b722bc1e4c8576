"""Pieces of chats laid out in batch rows: one to a row, or several. B rows, T positions a row, P pieces, K packed rows."""

from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.data_pipeline.sampling.cutting import Cut, cut
from ml_playground.data_pipeline.sampling.examples import Examples
from ml_playground.data_pipeline.sampling.packing import best_fit_decreasing
from ml_playground.data_pipeline.sampling.shapes import padded_widths
from ml_playground.data_pipeline.settings import PackedExamples, PaddedExamples

BatchT_co = TypeVar("BatchT_co", covariant=True)

PADDING_ID = 0


class BatchRows(Protocol[BatchT_co]):
    """The rows of a split, to be chosen by their numbers."""

    cut: Cut
    """The pieces."""

    def __len__(self) -> int:
        """How many rows there are."""
        ...

    def batch(self, numbers: NDArray[np.int64]) -> BatchT_co:
        """The rows of these numbers, (B,).

        Raises:
            DataError: Their files are no longer what they were.
        """
        ...

    def pieces_of(self, number: int) -> NDArray[np.int64]:
        """Which pieces a row holds."""
        ...

    @property
    def widths(self) -> NDArray[np.int64]:
        """Positions of a batch that has each row as its longest."""
        ...

    @property
    def targets(self) -> NDArray[np.int64]:
        """Of each row."""
        ...

    @property
    def evaluation_order(self) -> NDArray[np.int64]:
        """In which rows are looked at: a batch that needs as much memory as any other comes first."""
        ...


class PaddedRows:
    """A piece a row; the rows of a batch are as long as its longest piece, rounded up."""

    def __init__(self, examples: Examples, settings: PaddedExamples) -> None:
        self._examples = examples
        self.cut = cut(examples, settings.sequence_tokens, settings.truncation)
        self.widths = padded_widths(self.cut.positions, settings)

    def __len__(self) -> int:
        """P."""
        return len(self.cut.rows)

    def batch(self, numbers: NDArray[np.int64]) -> TokenBatch:
        """Ids and labels (B, T): the chats begin at the left, and padding follows, which no token before it can see.

        Raises:
            DataError: A file is no longer what it was.
        """
        layout = _Layout(self._examples, self.cut, (len(numbers), int(self.widths[numbers].max())))
        self._examples.check()
        for row, piece in enumerate(numbers.tolist()):
            layout.put(piece, row, 0)
        self._examples.check()
        return layout.batch()

    def pieces_of(self, number: int) -> NDArray[np.int64]:
        """The one that it is."""
        return np.array([number])

    @property
    def targets(self) -> NDArray[np.int64]:
        """Of each row, (P,)."""
        return self.cut.targets

    @property
    def evaluation_order(self) -> NDArray[np.int64]:
        """The longest first: so rows of about one length meet, and little is padded."""
        return np.argsort(-self.cut.positions, kind="stable")


class PackedRows:
    """Several pieces a row, each a document of its own; all rows are T long, and what is left over is one more document."""

    def __init__(self, examples: Examples, settings: PackedExamples) -> None:
        self._examples = examples
        self._length = settings.sequence_tokens
        self.cut = cut(examples, settings.sequence_tokens, settings.truncation)
        self._bins = best_fit_decreasing(self.cut.positions, settings.sequence_tokens)

    def __len__(self) -> int:
        """K."""
        return len(self._bins)

    def batch(self, numbers: NDArray[np.int64]) -> TokenBatch:
        """Ids, labels, positions and documents (B, T).

        Raises:
            DataError: A file is no longer what it was.
        """
        shape = (len(numbers), self._length)
        layout = _Layout(self._examples, self.cut, shape)
        positions, documents = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        self._examples.check()
        for row, number in enumerate(numbers.tolist()):
            end = document = 0
            for document, piece in enumerate(self.pieces_of(number).tolist()):
                begin, end = end, layout.put(piece, row, end)
                positions[row, begin:end] = np.arange(end - begin)
                documents[row, begin:end] = document
            positions[row, end:] = np.arange(self._length - end)
            documents[row, end:] = document + 1
        self._examples.check()
        return layout.batch(positions, documents)

    def pieces_of(self, number: int) -> NDArray[np.int64]:
        """Those of a row, in its order."""
        return self._bins.members_of(number)

    @property
    def widths(self) -> NDArray[np.int64]:
        """T, of each row, (K,)."""
        return np.full(len(self), self._length)

    @property
    def targets(self) -> NDArray[np.int64]:
        """Of each row, (K,)."""
        return np.add.reduceat(self.cut.targets[self._bins.members], self._bins.starts[:-1])

    @property
    def evaluation_order(self) -> NDArray[np.int64]:
        """As they stand: all are of one length."""
        return np.arange(len(self))


class _Layout:
    """A batch that is being filled."""

    def __init__(self, examples: Examples, pieces: Cut, shape: tuple[int, int]) -> None:
        self._examples, self._pieces = examples, pieces
        self._ids = np.full(shape, PADDING_ID, dtype=np.int64)
        self._labels = np.full(shape, NO_TARGET, dtype=np.int64)
        self._weights = np.zeros(shape, dtype=np.float32) if pieces.weighted else None

    def put(self, piece: int, row: int, begin: int) -> int:
        """A piece into a row from a position on; where it ends."""
        first, length = int(self._pieces.firsts[piece]), int(self._pieces.lengths[piece])
        end = begin + length - 1
        tokens = self._examples.tokens[first : first + length]
        weights = self._examples.token_weights[first + 1 : first + length]
        self._ids[row, begin:end] = tokens[:-1]
        labels = self._labels[row, begin:end]
        labels[:] = tokens[1:]
        labels[weights <= 0] = NO_TARGET
        if self._weights is not None:
            self._weights[row, begin:end] = weights
        return end

    def batch(self, *layout: NDArray[np.int64]) -> TokenBatch:
        """What was filled; `layout`: positions and documents."""
        weights = None if self._weights is None else torch.from_numpy(self._weights)
        ids, labels, *places = (torch.from_numpy(one) for one in (self._ids, self._labels, *layout))
        return TokenBatch(ids, labels, weights, *places)
