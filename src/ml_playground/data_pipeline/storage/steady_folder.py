"""A folder that is read again and again while another may be put in its place."""

from pathlib import Path

from ml_playground.core.error_handling import DataError


class SteadyFolder:
    """The folder that lay at a path when it was first seen, wherever `mlp prepare --fresh` has set its parent aside since."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = path.stat().st_ino

    def path(self) -> Path:
        """Where it lies.

        Raises:
            DataError: Another one lies there, and it is not among what was set aside.
        """
        parent = self._path.parent
        for place in (parent, *parent.parent.glob(f"{parent.name}.old-*")):
            there = place / self._path.name
            if there.is_dir() and there.stat().st_ino == self._inode:
                return there
        raise DataError(
            f"{self._path} was replaced or removed while the run trains, and every checkpoint carries a copy of it. "
            "The run ends here with its last checkpoint; bring the folder back and type the same command again."
        )
