"""Which item comes at which place of a run: each exactly once an epoch, computed from seed and place alone. B rows."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.seeding import seed_for
from ml_playground.data_pipeline.sampling.permutation import KeyedPermutation

BatchT = TypeVar("BatchT")

TOKENS_AT_ONCE = 4096
"""Above this an evaluation on the CPU is slower again: its states no longer fit the caches (docs/LOG.md, evaluation batches)."""

MOST_TRAINING_BATCHES = 4
"""Training batches that are evaluated at once; a training step keeps the activations of at least as many blocks."""


class ChosenBatches(Generic[BatchT]):
    """Batches of chosen items, made one at a time."""

    def __init__(self, make: Callable[[NDArray[np.int64]], BatchT], chosen: Sequence[NDArray[np.int64]]) -> None:
        """`make` gives the batch of these items, (B,)."""
        self._make, self._chosen = make, chosen

    def __len__(self) -> int:
        """How many there are."""
        return len(self._chosen)

    def __iter__(self) -> Iterator[BatchT]:
        """Each of them, in order."""
        return map(self._make, self._chosen)


class EpochOrder:
    """Row r of batch i is position i * B + r, epoch after epoch; a batch may reach over one epoch's end, or several."""

    def __init__(self, items: int, rows: int, order: Literal["random", "sequential"], seed: int, stream: str) -> None:
        """`stream` names what is dealt out: other items, other orders."""
        self._items, self._rows, self._order = items, rows, order
        self._seed, self._stream = seed, stream

    def numbers_at(self, index: int) -> NDArray[np.int64]:
        """The items of batch number `index`, (B,)."""
        return self.numbers(index * self._rows + np.arange(self._rows, dtype=np.int64))

    def numbers(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The items at these positions of the run, (n,) to (n,)."""
        epochs, places = np.divmod(positions, self._items)
        if self._order == "sequential":
            return places
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            places[here] = _permutation(self._items, self._seed, self._stream, epoch)(places[here])
        return places


class EpochBatches(Generic[BatchT]):
    """Batches without end, each a function of seed and number alone."""

    def __init__(self, make: Callable[[NDArray[np.int64]], BatchT], order: EpochOrder) -> None:
        """`make` gives the batch of these items, (B,)."""
        self._make, self._order = make, order

    def batch_at(self, index: int) -> BatchT:
        """Micro-batch number `index` of the run."""
        return self._make(self._order.numbers_at(index))

    def numbers_at(self, index: int) -> NDArray[np.int64]:
        """Which items that is, (B,)."""
        return self._order.numbers_at(index)


def evaluated(
    items: int,
    training_rows: int,
    sequence_tokens: int,
    max_batches: int | None,
    order: NDArray[np.int64] | None = None,
) -> list[NDArray[np.int64]]:
    """The items of each batch of an evaluation: each item once, or `max_batches` training batches' worth spread evenly over all.

    Args:
        items: How many there are.
        training_rows: B.
        sequence_tokens: T.
        max_batches: Of the training; none: as many as there are.
        order: In which they are looked at, (items,); none: as they stand.
    """
    wanted = items if max_batches is None else min(items, max_batches * training_rows)
    chosen = np.arange(wanted, dtype=np.int64) * items // max(1, wanted)
    if order is not None:
        place = np.empty(items, dtype=np.int64)
        place[order] = np.arange(items)
        chosen = chosen[np.argsort(place[chosen])]
    rows = rows_without_gradient(training_rows, sequence_tokens)
    return [chosen[start : start + rows] for start in range(0, wanted, rows)]


def rows_without_gradient(training_rows: int, sequence_tokens: int) -> int:
    """Rows of a batch that is only looked at: a multiple of the training's, about `TOKENS_AT_ONCE` tokens.

    Without a gradient one block's activations exist at a time, so a few times the rows take no more memory than a training step.
    """
    training_tokens = training_rows * sequence_tokens
    return training_rows * max(1, min(MOST_TRAINING_BATCHES, TOKENS_AT_ONCE // training_tokens))


@lru_cache(maxsize=4)
def _permutation(items: int, seed: int, stream: str, epoch: int) -> KeyedPermutation:
    """Its keys take as long to derive as a batch takes to shuffle, so the newest are kept."""
    return KeyedPermutation(items, seed_for(seed, stream, epoch))
