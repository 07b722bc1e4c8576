"""What stood where something new will stand, under another name beside it."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from ml_playground.core import atomic
from ml_playground.core.storage_errors import storage_errors


@contextmanager
def kept(folder: Path) -> Generator[Path | None]:
    """Keep a folder's content while a block replaces it; where the block fails, the folder still stands and the copy goes.

    Yields:
        `FOLDER.backup-1`, or the next number that is free; None where there is nothing to keep.

    Raises:
        StorageError: The copy could not be written.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        yield None
        return
    names = (folder.with_name(f"{folder.name}.backup-{number}") for number in count(1))
    backup = next(name for name in names if not name.exists())
    with storage_errors(backup), atomic.folder(backup) as new:
        # A link takes no space, and what replaces the folder leaves its old files as they are.
        shutil.copytree(folder, new, copy_function=_linked, symlinks=True, dirs_exist_ok=True)
    try:
        yield backup
    except BaseException:
        atomic.remove_folder(backup)
        raise


def _linked(source: str, place: str) -> str:
    try:
        os.link(source, place, follow_symlinks=False)
    except OSError:
        # Another file system may know no links.
        shutil.copy2(source, place, follow_symlinks=False)
    return place
