"""Which rows are equal, among any number of them: 40 bytes a row, on the disk once there are many.

A row is known by 16 bytes of BLAKE2b: among a billion rows the chance that any two different ones share them is 1e-21. Sorted, equal ones
lie beside each other, and are looked at some at a time. What all rows of a key have in common (which is the first, whether they are on both
sides of a split) may depend on rows of several chunks: a first pass over the chunks finds it for the keys that go on from one chunk to the
next, a second pass gives it with every record. So memory is bounded also where all rows are equal, or have one key in a million spellings.
"""

import struct
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ml_playground.data_pipeline.checks.external_sort import SIZES, ExternalSort, Records, Sizes

KEY_BYTES = 16
NONE = (1 << 64) - 1
"""Stands for a row where there is none."""

_RECORD = struct.Struct("<16sQQQ")
_DTYPE = np.dtype([(name, "<u8") for name in ("high", "low", "other", "row", "offset")])
_TOTALS = np.dtype([("first", "u8"), ("second", "u8"), ("least", "u8"), ("most", "u8"), ("sides", "u1")])

Mask = NDArray[np.bool_]
Sides = Callable[[NDArray[np.uint64]], NDArray[np.uint8]]
"""Of row numbers: the side of each, as bits."""
Totals = tuple[int, int, int, int, int]
"""The fields of `_TOTALS`."""


def digest(data: bytes) -> bytes:
    """The 16 bytes that stand for a text."""
    return blake2b(data, digest_size=KEY_BYTES).digest()


def short_digest(data: bytes) -> int:
    """8 bytes that tell texts of one key apart."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


class Groups(NamedTuple):
    """Records of equal keys, beside each other, and of each record, (records,), what all of its key have in common."""

    records: Records
    """With the fields `row`, `offset` and `other`, sorted by key and other."""
    side: NDArray[np.uint8]
    """Of the record itself."""
    first: NDArray[np.uint64]
    """The first row of its key."""
    second: NDArray[np.uint64]
    """The second one; `NONE` where there is none."""
    first_alike: NDArray[np.uint64]
    """The first row with its key and its other."""
    many_others: Mask
    """Whether its key comes with different others."""
    sides: NDArray[np.uint8]
    """The sides of all of its key, as bits."""


class FingerprintTable:
    """Keys of rows, added in any order; a context that removes what it wrote to the disk."""

    def __init__(self, sizes: Sizes = SIZES) -> None:
        self._sort = ExternalSort(_DTYPE, ("high", "low", "other"), sizes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._sort.__exit__(*error)

    def add(self, key: bytes, other: int, row: int, offset: int) -> None:
        """Remember a row.

        Args:
            key: 16 bytes; rows of equal ones are brought together.
            other: What tells rows of one key apart, or is summed over them.
            row: Its number; each at most once.
            offset: Where it begins in its file, in bytes.

        Raises:
            StorageError: The folder for temporary files is full.
        """
        self._sort.add(_RECORD.pack(key, other, row, offset))

    def groups(self, sides: Sides = lambda rows: np.zeros(len(rows), np.uint8)) -> Iterator[Groups]:
        """All records, some at a time."""
        keys, spellings = _Spans(), _Spans()
        for records in self._sort.chunks():
            found = _Chunk(records, sides)
            keys.add(found.totals(found.new_key), found.key(0), found.key(-1))
            spellings.add(found.totals(found.new_other), found.spelling(0), found.spelling(-1))
        for number, records in enumerate(self._sort.chunks()):
            found = _Chunk(records, sides)
            of_key = keys.completed(number, found.totals(found.new_key))[np.cumsum(found.new_key) - 1]
            alike = spellings.completed(number, found.totals(found.new_other))[np.cumsum(found.new_other) - 1]
            yield Groups(
                records,
                found.side,
                of_key["first"],
                of_key["second"],
                alike["first"],
                of_key["least"] != of_key["most"],
                of_key["sides"],
            )


class _Chunk:
    """Records that were sorted, and where their keys begin."""

    def __init__(self, records: Records, sides: Sides) -> None:
        self.records, self.side = records, sides(records["row"])
        self.new_key = np.ones(len(records), dtype=bool)
        self.new_key[1:] = (records["high"][1:] != records["high"][:-1]) | (records["low"][1:] != records["low"][:-1])
        self.new_other = self.new_key.copy()
        self.new_other[1:] |= records["other"][1:] != records["other"][:-1]

    def key(self, index: int) -> tuple[int, ...]:
        """The key of a record."""
        return tuple(int(self.records[name][index]) for name in ("high", "low"))

    def spelling(self, index: int) -> tuple[int, ...]:
        """The key of a record with its other."""
        return (*self.key(index), int(self.records["other"][index]))

    def totals(self, new: Mask) -> NDArray[Any]:
        """What the records of each stretch have in common, (stretches,) of `_TOTALS`."""
        starts, stretch = np.flatnonzero(new), np.cumsum(new) - 1
        row, other = self.records["row"].astype(np.uint64), self.records["other"].astype(np.uint64)
        found = np.empty(len(starts), _TOTALS)
        found["first"] = np.minimum.reduceat(row, starts)
        row[row == found["first"][stretch]] = NONE
        found["second"] = np.minimum.reduceat(row, starts)
        found["least"] = np.minimum.reduceat(other, starts)
        found["most"] = np.maximum.reduceat(other, starts)
        found["sides"] = np.bitwise_or.reduceat(self.side, starts)
        return found


class _Spans:
    """Totals of the first and the last stretch of each chunk: those that may go on in another one."""

    def __init__(self) -> None:
        self._totals: list[Totals] = []
        self._of_chunk: list[tuple[int, int]] = []
        self._last: tuple[int, ...] | None = None

    def add(self, totals: NDArray[Any], first: tuple[int, ...], last: tuple[int, ...]) -> None:
        """The next chunk, with what its first and its last stretch are known by."""
        begin: Totals = totals[0].item()
        if first == self._last:
            self._totals[-1] = _joined(self._totals[-1], begin)
        else:
            self._totals.append(begin)
        head = len(self._totals) - 1
        if len(totals) > 1:
            self._totals.append(totals[-1].item())
        self._of_chunk.append((head, len(self._totals) - 1))
        self._last = last

    def completed(self, chunk: int, totals: NDArray[Any]) -> NDArray[Any]:
        """The totals of a chunk, with what other chunks add to them."""
        head, tail = self._of_chunk[chunk]
        totals[0], totals[-1] = self._totals[head], self._totals[tail]
        return totals


def _joined(one: Totals, other: Totals) -> Totals:
    first, second = sorted((*one[:2], *other[:2]))[:2]
    return first, second, min(one[2], other[2]), max(one[3], other[3]), one[4] | other[4]
