"""Which item comes at which place of a run: each exactly once an epoch, computed from seed and place alone. B rows."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.seeding import seed_for
from ml_playground.data_pipeline.sampling.permutation import KeyedPermutation

BatchT = TypeVar("BatchT")


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
        positions = index * self._rows + np.arange(self._rows, dtype=np.int64)
        epochs, places = np.divmod(positions, self._items)
        if self._order == "sequential":
            return places
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            places[here] = _permutation(self._items, self._seed, self._stream, epoch)(places[here])
        return places


@lru_cache(maxsize=4)
def _permutation(items: int, seed: int, stream: str, epoch: int) -> KeyedPermutation:
    """Its keys take as long to derive as a batch takes to shuffle, so the newest are kept."""
    return KeyedPermutation(items, seed_for(seed, stream, epoch))
