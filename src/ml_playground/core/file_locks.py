"""Locks that end with their process, on what a writer works on: unlocked means that no live process writes it."""

import errno
import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from threading import get_ident
from typing import BinaryIO
from weakref import ref

_ours: dict[tuple[int, Path], ref[BinaryIO]] = {}
"""Files that are locked, by thread and path; no `WeakValueDictionary`, whose callbacks would swallow a KeyboardInterrupt."""


def locked_file(path: Path, buffering: int = -1) -> BinaryIO:
    """The file that lies at `path`, to read and write, locked until it is closed; waits for another writer.

    A KeyboardInterrupt may fall between the lock and the block that would close the file. What was broken off in this way
    holds the lock as long as its traceback lives; the thread that broke it off takes the lock from it instead of waiting
    for itself.

    Raises:
        OSError: It cannot be opened, or is a link, which could lead anywhere.
    """
    mine = get_ident(), path
    if broken_off := _broken_off(mine):
        broken_off.close()
    while True:
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        # The object that closes the file is made by the call that opens it: no signal comes between them.
        try:
            stream = path.open("r+b", buffering)
        except FileNotFoundError:
            with suppress(FileExistsError):
                path.touch(exist_ok=False)
            continue
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if _lies_at(stream.fileno(), path):
                _ours[mine] = ref(stream)
                return stream
        except BaseException:
            stream.close()
            raise
        # The writer we waited for has renamed its file away: this is now somebody's finished content.
        stream.close()


def _broken_off(mine: tuple[int, Path]) -> BinaryIO | None:
    """The file that this thread has locked and never closed; what is gone is forgotten."""
    for other, held in tuple(_ours.items()):
        if held() is None:
            _ours.pop(other, None)
    held = _ours.get(mine)
    return held() if held is not None else None


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
            if _lies_at(descriptor, path):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
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
        there = path.lstat()
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
