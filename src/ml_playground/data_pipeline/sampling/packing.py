"""Which chats share a row: best fit decreasing, by sizes alone, in seconds for millions. Free of torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Bins:
    """Items in bins: K bins, P items."""

    members: NDArray[np.int64]
    """(P,) the items, bin after bin; in a bin, and bins by their first item, in order."""
    starts: NDArray[np.int64]
    """(K + 1,) where each bin begins among them; the last entry is P."""

    def __len__(self) -> int:
        """K."""
        return len(self.starts) - 1

    def members_of(self, number: int) -> NDArray[np.int64]:
        """The items of a bin."""
        return self.members[self.starts[number] : self.starts[number + 1]]


def best_fit_decreasing(sizes: NDArray[np.int64], capacity: int) -> Bins:
    """Items dealt out to bins: from the largest to the smallest, each into the fullest bin that still has room.

    Bins with equal room are equal to the rule, so all of them take items of one size together: the work grows with the
    different sizes and rooms, not with the items.

    Args:
        sizes: (P,) of each item: 1 to `capacity`.
        capacity: Of a bin.

    Source: Johnson, Near-Optimal Bin Packing Algorithms (1973): 11/9 of the fewest bins, and 4 more, at most.
    """
    order = np.argsort(-sizes, kind="stable")
    dealing = _Dealing(len(sizes), capacity)
    different, counts = np.unique(sizes, return_counts=True)
    begin = 0
    for size, count in zip(different[::-1].tolist(), counts[::-1].tolist(), strict=True):
        items = order[begin : begin + count]
        begin += count
        for room in dealing.rooms_from(size):
            items = items[dealing.put(items, size, room) :]
            if not len(items):
                break
        if len(items):
            dealing.open_bins(items, size)
    return _in_order(dealing.bin_of, dealing.bins)


class _Dealing:
    """Bins by the room that they have, and what lies in which."""

    def __init__(self, items: int, capacity: int) -> None:
        self.bin_of: NDArray[np.int64] = np.empty(items, dtype=np.int64)
        self.bins = 0
        self._capacity = capacity
        self._rooms: list[list[NDArray[np.int64]]] = [[] for _ in range(capacity + 1)]
        self._used = np.zeros(capacity + 1, dtype=bool)

    def rooms_from(self, size: int) -> list[int]:
        """The rooms there are that hold an item, the smallest first."""
        return (size + np.flatnonzero(self._used[size:])).tolist()

    def put(self, items: NDArray[np.int64], size: int, room: int) -> int:
        """As many items of a size as they hold into the bins with just this room; how many."""
        fit = room // size
        there: NDArray[np.int64] = np.concatenate(self._rooms[room])
        needed = -(-len(items) // fit)
        self._rooms[room] = [there[needed:]] if needed < len(there) else []
        self._used[room] = needed < len(there)
        return self._fill(items, there[:needed], size, room)

    def open_bins(self, items: NDArray[np.int64], size: int) -> None:
        """The items of a size into as many new bins as it takes."""
        fresh: NDArray[np.int64] = np.arange(self.bins, self.bins - (-len(items) // (self._capacity // size)))
        self.bins += len(fresh)
        self._fill(items, fresh, size, self._capacity)

    def _fill(self, items: NDArray[np.int64], bins: NDArray[np.int64], size: int, room: int) -> int:
        """Each bin holds as many as it can, the last one the rest; the bins go where their new room is."""
        fit = room // size
        put = min(len(items), fit * len(bins))
        self.bin_of[items[:put]] = np.repeat(bins, fit)[:put]
        for some, held in ((bins[:-1], fit), (bins[-1:], put - fit * (len(bins) - 1))):
            left = room - held * size
            if len(some) and left:
                self._rooms[left].append(some)
                self._used[left] = True
        return put


def _in_order(bin_of: NDArray[np.int64], bins: int) -> Bins:
    """Bins numbered by their first item."""
    members = np.argsort(bin_of, kind="stable")
    starts = np.searchsorted(bin_of[members], np.arange(bins + 1))
    by_first = np.argsort(members[starts[:-1]], kind="stable")
    number = np.empty(bins, dtype=np.int64)
    number[by_first] = np.arange(bins)
    renumbered = number[bin_of]
    members = np.argsort(renumbered, kind="stable")
    return Bins(members, np.searchsorted(renumbered[members], np.arange(bins + 1)))
