"""Sorting more records than memory holds: sorted runs in a file that nobody else sees, merged some at a time."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.storage_errors import storage_errors

Records = NDArray[Any]
"""Of a structured type."""
SortKey = tuple[int, ...]


class Sizes(NamedTuple):
    """What is held in memory, whatever is sorted."""

    run_bytes: int = 1 << 23
    """Held before anything goes to the disk: 200,000 records of 40 bytes."""
    chunk_bytes: int = 1 << 22
    """Of the sorted records that are looked at together; while merging, also of all runs together."""
    most_runs: int = 512
    """Then they become one: blocks of 8 kB are the shortest that are worth a read."""


SIZES = Sizes()
MOVED_BY = "TMPDIR"
"""Names the folder for temporary files."""


class ExternalSort:
    """Records in any order, given back sorted; a context that removes what it wrote to the disk."""

    def __init__(self, dtype: np.dtype[Any], by: Sequence[str], sizes: Sizes = SIZES) -> None:
        """What is sorted: records of `dtype` by these of its fields, which hold unsigned integers."""
        self._dtype, self._by, self._sizes = dtype, tuple(by), sizes
        self._held = bytearray()
        self._file: BinaryIO | None = None
        self._ends = [0]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, packed: bytes) -> None:
        """More records, as the bytes of an array of them.

        Raises:
            StorageError: The folder for temporary files is full.
        """
        self._held += packed
        if len(self._held) >= self._sizes.run_bytes:
            self._write_run()

    def chunks(self) -> Iterator[Records]:
        """All records, sorted; the same chunks each time. Equal ones, by what is sorted by, may come in any order.

        Raises:
            StorageError: The folder for temporary files is full.
        """
        if self._file is None:
            if self._held:
                yield self._sorted(np.frombuffer(bytes(self._held), self._dtype))
            return
        if self._held:
            self._write_run()
        yield from self._merged(self._file)

    def _write_run(self) -> None:
        if self._file is None:
            self._file = self._new_file()
        records, self._held = np.frombuffer(self._held, self._dtype), bytearray()
        self._append(self._file, self._sorted(records))
        self._ends.append(self._ends[-1] + len(records))
        if len(self._ends) > self._sizes.most_runs:
            whole = self._new_file()
            for chunk in self._merged(self._file):
                self._append(whole, chunk)
            self._file.close()
            self._file, self._ends = whole, [0, self._ends[-1]]

    def _new_file(self) -> BinaryIO:
        with storage_errors(_place(), MOVED_BY):
            # Without a buffer: what did not fit on the disk would be written once more as the file is closed.
            return cast(BinaryIO, self._stack.enter_context(tempfile.TemporaryFile(buffering=0)))

    @staticmethod
    def _append(file: BinaryIO, records: Records) -> None:
        rest = memoryview(records.tobytes())
        with storage_errors(_place(), MOVED_BY):
            while rest:
                rest = rest[file.write(rest) :]

    def _sorted(self, records: Records) -> Records:
        return records[np.lexsort([records[name] for name in reversed(self._by)])]

    def _merged(self, file: BinaryIO) -> Iterator[Records]:
        """Whatever is no larger than the smallest of the last records at hand is complete: nothing smaller can follow."""
        rows = max(1, self._sizes.chunk_bytes // self._dtype.itemsize)
        block = max(1, rows // (len(self._ends) - 1))
        runs: list[_Run] = [_Run(file, self._dtype, self._by, block, *ends) for ends in pairwise(self._ends)]
        parts: list[Records] = []
        held = 0
        while runs:
            bound = min(run.last for run in runs)
            for run in runs:
                if run.first <= bound:
                    parts.append(run.take(bound))
                    held += len(parts[-1])
            runs = [run for run in runs if not run.empty]
            if held >= rows or not runs:
                yield self._sorted(np.concatenate(parts))
                parts, held = [], 0


class _Run:
    """A sorted stretch of the file, a block of it in memory."""

    first: SortKey
    last: SortKey

    def __init__(
        self, file: BinaryIO, dtype: np.dtype[Any], by: tuple[str, ...], block: int, start: int, end: int
    ) -> None:
        self._file, self._dtype, self._by, self._block = file, dtype, by, block
        self._next, self._end = start, end
        self._load()

    @property
    def empty(self) -> bool:
        """Whether all of it was taken."""
        return not len(self._records)

    def take(self, bound: SortKey) -> Records:
        """The records up to that one, of those at hand."""
        end = _up_to(self._records, self._by, bound)
        taken, self._records = self._records[:end], self._records[end:]
        if self.empty:
            self._load()
        else:
            self.first = self._key(0)
        return taken

    def _load(self) -> None:
        count, size = min(self._block, self._end - self._next), self._dtype.itemsize
        data = os.pread(self._file.fileno(), count * size, self._next * size)
        self._next += count
        self._records: Records = np.frombuffer(data, self._dtype)
        if count:
            self.first, self.last = self._key(0), self._key(-1)

    def _key(self, index: int) -> SortKey:
        record = self._records[index]
        return tuple(int(record[name]) for name in self._by)


def _up_to(records: Records, by: tuple[str, ...], bound: SortKey) -> int:
    """How many of the sorted records are no larger than that."""
    start, end = 0, len(records)
    for name, value in zip(by, bound, strict=True):
        column: NDArray[Any] = records[name][start:end]
        # A plain integer would be compared as a float, which tells large ones apart only roughly.
        wanted = np.array(value, column.dtype)
        start, end = start + int(np.searchsorted(column, wanted)), start + int(np.searchsorted(column, wanted, "right"))
    return end


def _place() -> Path:
    return Path(tempfile.gettempdir()) / "fingerprints"
