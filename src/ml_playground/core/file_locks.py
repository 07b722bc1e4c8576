"""Locks that end with their process, on what a writer works on: unlocked means that no live process writes it."""

import errno
import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path


def locked_file(path: Path) -> int:
    """Descriptor of the file that lies at `path`, locked; waits for another writer.

    Raises:
        OSError: It cannot be opened, or is a link, which could lead anywhere.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _lies_at(descriptor, path):
            return descriptor
        # The writer we waited for has renamed its file away: this descriptor is now somebody's finished content.
        os.close(descriptor)


def locked_folder(path: Path) -> int | None:
    """Descriptor of a locked folder, made where there is none; None where a live writer holds it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another writer may rename or remove its folder between any two of these lines; then it is tried again.
        with suppress(FileExistsError):
            path.mkdir()
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _lies_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock of a file, which ends with that process; looking does not take it.

    A process id would not do: after a kill it may belong to a stranger.
    """
    try:
        # A pipe of that name opens at once, and is held by nobody.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # Shared, so that two viewers never see each other; the lock is given back at once.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    return False


def _lies_at(descriptor: int, path: Path) -> bool:
    """Whether an open file or folder is the one at `path`, and not one that was renamed or removed meanwhile."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def empty_folder(path: Path) -> None:
    """Remove what lies in a folder."""
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            remove_tree(entry)
        else:
            entry.unlink()


def remove_tree(path: Path) -> None:
    """Remove a folder and what lies in it.

    Raises:
        OSError: Something could not be removed; it names the folder, where the library gives a bare name of something inside.
    """
    try:
        shutil.rmtree(path)
    except OSError as error:
        error.filename = str(path)
        raise
