"""Which rows are equal, among any number of them: 40 bytes a row, on the disk once there are many.

A row is known by 16 bytes of BLAKE2b: among a billion rows the chance that any two different ones share them is 1e-21. Rows are dealt into
`PARTITIONS` files by their first bits; equal ones meet in one file, and each file is sorted alone. So what is held grows with the number of
rows that equal one another (150 bytes each), not with that of all rows.
"""

import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.storage_errors import storage_errors

KEY_BYTES = 16
PARTITIONS = 64
"""A billion rows of 40 bytes are then sorted 625 MB at a time, ten million 6 MB at a time."""
SPILL_BYTES = 1 << 24
"""Held in memory before anything goes to the disk: 400,000 rows."""

_RECORD = struct.Struct("<16sQQQ")
_DTYPE = np.dtype([("high", "<u8"), ("low", "<u8"), ("other", "<u8"), ("row", "<u8"), ("offset", "<u8")])

Rows = NDArray[Any]
"""Records of `_DTYPE`, sorted by key, other and row."""


def digest(data: bytes) -> bytes:
    """The 16 bytes that stand for a text."""
    return blake2b(data, digest_size=KEY_BYTES).digest()


def short_digest(data: bytes) -> int:
    """8 bytes that tell texts of one key apart."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


class Groups(NamedTuple):
    """Records of equal keys, beside each other."""

    records: Rows
    starts: NDArray[np.intp]
    """Where each group begins."""
    group: NDArray[np.intp]
    """Of each record, the number of its group."""
    new_other: NDArray[np.bool_]
    """Of each record, whether it is the first of its group with its `other`."""

    def first_rows(self) -> NDArray[np.uint64]:
        """Of each record, the first row of its group."""
        return np.minimum.reduceat(self.records["row"], self.starts)[self.group]


class FingerprintTable:
    """Keys of rows, added in any order; a context that removes what it wrote to the disk."""

    def __init__(self, spill_bytes: int = SPILL_BYTES) -> None:
        self._spill_bytes = spill_bytes
        self._held = bytearray()
        self._files: list[BinaryIO] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

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
        self._held += _RECORD.pack(key, other, row, offset)
        if len(self._held) >= self._spill_bytes:
            self._spill()

    def groups(self) -> Iterator[Groups]:
        """All keys that occur more than once, a partition at a time."""
        if self._files:
            self._spill()
        for records in self._partitions():
            if (found := _repeated(records)) is not None:
                yield found

    def _partitions(self) -> Iterator[Rows]:
        if not self._files:
            yield _records(self._held)
        for file in self._files:
            file.seek(0)
            yield _records(file.read())

    def _spill(self) -> None:
        with storage_errors(Path(tempfile.gettempdir()) / "fingerprints"):
            if not self._files:
                for _ in range(PARTITIONS):
                    self._files.append(self._stack.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115 - the stack closes it
            records = _records(self._held)
            partition = (records["high"] % PARTITIONS).astype(np.uint8)
            order = np.argsort(partition, kind="stable")
            records = records[order]
            ends = np.searchsorted(partition[order], np.arange(1, PARTITIONS + 1))
            start = 0
            for file, end in zip(self._files, ends.tolist(), strict=True):
                file.write(records[start:end].tobytes())
                file.flush()
                start = end
        self._held = bytearray()


def _records(data: bytes | bytearray) -> Rows:
    return np.frombuffer(data, _DTYPE) if data else np.zeros(0, _DTYPE)


def _repeated(records: Rows) -> Groups | None:
    """The records whose key occurs more than once, sorted."""
    if len(records) < 2:  # noqa: PLR2004 - one row equals no other
        return None
    order = np.lexsort((records["low"], records["high"]))
    high, low = records["high"][order], records["low"][order]
    same = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    repeated = np.concatenate([[False], same]) | np.concatenate([same, [False]])
    if not repeated.any():
        return None
    records = records[order[repeated]]
    records = records[np.lexsort((records["row"], records["other"], records["low"], records["high"]))]
    new_key = np.ones(len(records), dtype=bool)
    new_key[1:] = (records["high"][1:] != records["high"][:-1]) | (records["low"][1:] != records["low"][:-1])
    new_other = new_key.copy()
    new_other[1:] |= records["other"][1:] != records["other"][:-1]
    return Groups(records, np.flatnonzero(new_key), np.cumsum(new_key) - 1, new_other)
