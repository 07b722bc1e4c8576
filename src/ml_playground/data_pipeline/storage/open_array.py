"""A file of numbers in use: mapped, and looked after, for whoever writes into a mapped file changes what is trained on."""

import mmap
import os
import weakref
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.error_handling import DataError
from ml_playground.core.foreign_files import content_of

ScalarT = TypeVar("ScalarT", bound=np.generic)

_BLOCK_BYTES = 1 << 20


def unchanged(before: os.stat_result, now: os.stat_result) -> bool:
    """Whether a file is still the one that it was and nobody has written into it, as far as that shows without reading it."""
    return (before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        now.st_ino,
        now.st_size,
        now.st_mtime_ns,
        now.st_ctime_ns,
    )


class OpenArray(Generic[ScalarT]):
    """The numbers of a file, and whether they still are what they were.

    A file that is replaced or removed under its name does not matter: the one that was opened stays until it is closed. One that
    is written into does: its map shows the new content at once, and a part that was cut off ends the process (SIGBUS).
    """

    def __init__(self, path: Path, dtype: np.dtype[ScalarT], sha256: str, before: os.stat_result | None) -> None:
        """`before`: the state of the file when it was compared with `sha256`; none: it was not, and is from now on.

        Raises:
            DataError: It is another file by now.
        """
        self._path = path
        self._sha256 = sha256
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._state = os.fstat(self._descriptor)
        if before is not None and not unchanged(before, self._state):
            raise DataError(f"{path} was written while it was being opened; type the same command again.")
        self.numbers: NDArray[ScalarT] = np.empty(0, dtype=dtype)
        if self._state.st_size:  # An empty file cannot be mapped.
            whole = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
            self.numbers = np.frombuffer(whole, dtype=dtype)

    def check(self) -> None:
        """One question to the file system, 1.6 us: to be asked before numbers are read and after.

        Raises:
            DataError: The content changed.
        """
        state = os.fstat(self._descriptor)
        if not unchanged(self._state, state):
            self._look_again(state)

    def _look_again(self, state: os.stat_result) -> None:
        """A copy of the folder by hard links or other rights change the state too, but no number."""
        if state.st_size != self._state.st_size:
            raise self._changed(f"it had {self._state.st_size} bytes and has {state.st_size}")
        starts = range(0, state.st_size, _BLOCK_BYTES)
        if content_of(os.pread(self._descriptor, _BLOCK_BYTES, start) for start in starts).sha256 != self._sha256:
            raise self._changed("its content is another one")
        self._state = state

    def _changed(self, how: str) -> DataError:
        return DataError(
            f"{self._path} was written into while it was trained on: {how}. The run ends here with its last checkpoint, which has "
            "not seen the change. Bring the old file back and type the same command again; or prepare the data anew "
            "(mlp prepare EXPERIMENT --fresh) and begin a new run (mlp train EXPERIMENT --fresh)."
        )
