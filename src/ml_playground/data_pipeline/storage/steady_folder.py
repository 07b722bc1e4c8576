"""A small folder that is read again and again while it may be edited, or another put in its place."""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.storage.open_array import unchanged
from ml_playground.data_pipeline.storage.token_file import FileAccount

AT_REST_NS = 2_000_000_000
"""File systems note the time of a change to a tick of their clock, two seconds at worst: a younger file is read each time."""


class SteadyFolder:
    """A folder of a prepared data set, with the content that it was prepared with.

    It is found also where `mlp prepare --fresh` has set the data set aside, and where it was taken away and brought back.
    """

    def __init__(self, path: Path, files: Mapping[str, FileAccount]) -> None:
        """`files`: what the data set holds, by its path below the data set's folder."""
        self._path = path
        self._accounts = {name: account for name, account in files.items() if name.startswith(f"{path.name}/")}
        self._compared: dict[Path, os.stat_result] = {}
        """Files that had the right content when they were last read, and their state then."""

    def path(self) -> Path:
        """Where it lies.

        Raises:
            DataError: It is gone, or its content is another one, and it is not among what was set aside.
        """
        for place in self._places():
            if self._is_whole(place):
                return place / self._path.name
        raise DataError(
            f"{self._path} was replaced, edited or removed while the run trains, and every checkpoint carries a copy of it. "
            "The run ends here with its last checkpoint; bring the folder back and type the same command again."
        )

    def _places(self) -> Iterator[Path]:
        parent = self._path.parent
        yield parent
        yield from sorted(parent.parent.glob(f"{parent.name}.old-*"))

    def _is_whole(self, place: Path) -> bool:
        """Whether the folder below `place` holds every file as it was prepared, and no other."""
        folder = place / self._path.name
        there = {path.relative_to(place).as_posix() for path in folder.rglob("*") if path.is_file()}
        return there == self._accounts.keys() and all(
            self._is_as_prepared(place / name, account) for name, account in self._accounts.items()
        )

    def _is_as_prepared(self, path: Path, account: FileAccount) -> bool:
        try:
            state = path.stat()
            before = self._compared.get(path)
            if before is not None and unchanged(before, state):
                return True
            if state.st_size != account.size_bytes:
                return False
            with path.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != account.sha256:
                    return False
        except OSError:
            # It went away in this moment, or cannot be read: either way it is not there for a checkpoint.
            return False
        if time.time_ns() - max(state.st_ctime_ns, state.st_mtime_ns) > AT_REST_NS:
            self._compared[path] = state
        return True
