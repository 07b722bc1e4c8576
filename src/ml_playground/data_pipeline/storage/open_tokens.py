"""A token file in use: mapped, and looked after, for whoever writes into a mapped file changes what is trained on."""

import hashlib
import mmap
import os
import weakref
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.storage.token_file import TokenType, stored_type

_BLOCK_BYTES = 1 << 20


class FileState(NamedTuple):
    """What tells that a file is still the one that it was, without reading it."""

    inode: int
    size_bytes: int
    written_ns: int
    """Of its content."""
    changed_ns: int
    """Of its content, its rights or its names."""


def file_state(found: os.stat_result) -> FileState:
    """The state of a file, of what the file system says of it."""
    return FileState(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class OpenTokens:
    """The ids of a split, and whether they still are what they were.

    A file that is replaced or removed under its name does not matter: the one that was opened stays until it is closed. One that
    is written into does: its map shows the new content at once, and a part that was cut off ends the process (SIGBUS).
    """

    def __init__(self, path: Path, name: TokenType, sha256: str, before: FileState | None) -> None:
        """`before`: the state of the file when it was compared with `sha256`; none: it was not, and is from now on.

        Raises:
            DataError: It is another file by now.
        """
        self._path = path
        self._sha256 = sha256
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._state = file_state(os.fstat(self._descriptor))
        if before is not None and before != self._state:
            raise DataError(f"{path} was written while it was being opened; type the same command again.")
        self.ids: NDArray[np.uint16 | np.uint32] = np.empty(0, dtype=stored_type(name))
        if self._state.size_bytes:  # An empty file cannot be mapped.
            whole = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
            self.ids = np.frombuffer(whole, dtype=stored_type(name))

    def check(self) -> None:
        """One question to the file system, 0.5 us: to be asked before ids are read and after.

        Raises:
            DataError: The content changed.
        """
        state = file_state(os.fstat(self._descriptor))
        if state != self._state:
            self._look_again(state)

    def _look_again(self, state: FileState) -> None:
        """A copy of the folder by hard links or other rights change the state too, but no id."""
        if state.size_bytes != self._state.size_bytes:
            raise self._changed(f"it had {self._state.size_bytes} bytes and has {state.size_bytes}")
        digest = hashlib.sha256()
        for start in range(0, state.size_bytes, _BLOCK_BYTES):
            digest.update(os.pread(self._descriptor, _BLOCK_BYTES, start))
        if digest.hexdigest() != self._sha256:
            raise self._changed("its content is another one")
        self._state = state

    def _changed(self, how: str) -> DataError:
        return DataError(
            f"{self._path} was written into while it was trained on: {how}. The run ends here with its last checkpoint, which has "
            "not seen the change. Bring the old file back and type the same command again; or prepare the text anew "
            "(mlp prepare EXPERIMENT --fresh) and begin a new run (mlp train EXPERIMENT --fresh)."
        )
