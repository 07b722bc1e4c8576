"""Which rows are at fault beside others: 9 bytes each, on the disk once there are many, read again in the order of the rows."""

from collections.abc import Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ml_playground.data_pipeline.checks.external_sort import SIZES, ExternalSort, Sizes

_DTYPE = np.dtype([("row", "<u8"), ("code", "u1")])


class RowMarks:
    """Codes of rows, added in any order; a context that removes what it wrote to the disk."""

    def __init__(self, sizes: Sizes = SIZES) -> None:
        self._sort = ExternalSort(_DTYPE, ("row", "code"), sizes)
        self._codes: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._sort.__exit__(*error)

    def add(self, code: str, rows: NDArray[np.uint64]) -> None:
        """These rows have that fault; each row at most once a code.

        Raises:
            StorageError: The folder for temporary files is full.
        """
        if code not in self._codes:
            self._codes.append(code)
        marks = np.empty(len(rows), _DTYPE)
        marks["row"], marks["code"] = rows, self._codes.index(code)
        self._sort.add(marks.tobytes())

    def reader(self) -> "MarkReader":
        """What gives them back."""
        return MarkReader(self._in_order())

    def _in_order(self) -> Iterator[tuple[int, str]]:
        for chunk in self._sort.chunks():
            for row, code in chunk:
                yield int(row), self._codes[code]


class MarkReader:
    """Codes of rows, asked for in their order."""

    def __init__(self, marks: Iterator[tuple[int, str]]) -> None:
        self._marks = marks
        self._next = next(marks, None)

    def codes(self, row: int) -> list[str]:
        """What was marked of a row that comes after all that were asked for."""
        found: list[str] = []
        while self._next is not None and self._next[0] <= row:
            if self._next[0] == row:
                found.append(self._next[1])
            self._next = next(self._marks, None)
        return found
