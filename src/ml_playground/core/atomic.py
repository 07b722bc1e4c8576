"""Files and folders that are complete or absent, and text files that only ever lose a torn last line.

A new content is written beside its place, in `.NAME.partial`, flushed to the disk, then renamed. A writer holds a lock on its
`.NAME.partial` (flock), which ends with its process: what is found unlocked was left by a dead one and is cleared away.

For a folder, `.NAME.partial/` is a workspace: `new/` is being filled, `old/` is what it replaces, for the moment between the
two renames of a replacement.
"""

import errno
import os
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from ml_playground.core.error_handling import StorageError
from ml_playground.core.file_locks import empty_folder, locked_file, locked_folder, remove_tree
from ml_playground.core.foreign_files import read_at_most
from ml_playground.core.storage_errors import storage_errors

_BLOCK_BYTES = 1 << 16

# Ten million rows of metrics; what is larger would not fit the memory of whoever reads it whole.
_MOST_LINES_BYTES = 2 << 30


def write_file(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write a whole file, or leave what was there.

    Args:
        path: Where; missing folders are made.
        content: Bytes, or text that is written as UTF-8 with its line ends as they are.
        durable: Wait until it is on the disk, so that it survives a power cut; a killed process loses nothing either way.

    Raises:
        StorageError: It could not be written; the old content stands.
    """
    with file(path, durable=durable) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def file(path: Path, *, durable: bool = True) -> Generator[BinaryIO]:
    """A binary file to write, which appears under its name when the block ends without an error.

    Raises:
        StorageError: It could not be written; the old content stands.
    """
    partial = _partial(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked_file(partial) as stream:
            try:
                stream.truncate(0)
                yield stream
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
                partial.replace(path)
            except BaseException:
                # A closed one was broken off, and its lock, perhaps its name, belongs to a later writer of this thread.
                if not stream.closed:
                    partial.unlink(missing_ok=True)
                raise
        if durable:
            _sync(path.parent)


@contextmanager
def folder(path: Path) -> Generator[Path]:
    """An empty folder to fill, which appears under its name when the block ends without an error.

    An older folder of that name is replaced: until the new one stands, readers find the old one through `standing`.

    Raises:
        StorageError: It could not be written, or another live process is writing it; the old folder stands.
    """
    with storage_errors(path), _workspace(path) as workspace:
        if path.exists() and not path.is_dir():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        new = workspace / "new"
        new.mkdir()
        yield new
        _sync_tree(workspace)
        if path.exists():
            path.rename(workspace / "old")
        new.rename(path)
        _sync(path.parent)


def standing(path: Path) -> Path:
    """Where the newest complete content of a folder lies: under its name, or set aside by a replacement that was killed."""
    old = _partial(path) / "old"
    return old if old.is_dir() and not path.exists() else path


def remove_folder(path: Path) -> None:
    """Remove a folder so that no half of it is ever seen under its name; nothing happens where there is none.

    Raises:
        StorageError: It could not be removed, or another live process is writing it.
    """
    with storage_errors(path):
        if path.is_dir():
            with _workspace(path) as workspace:
                path.rename(workspace / "removed")


def _anybodys(_path: Path) -> AbstractContextManager[bool]:
    return nullcontext(enter_result=True)


def sweep(parent: Path, claimed: Callable[[Path], AbstractContextManager[bool]] = _anybodys) -> None:
    """Clear away what dead writers of folders left in `parent`, and take back replacements that were killed.

    Args:
        parent: Where they lie.
        claimed: Whether a folder may be touched, for as long as it is: a writer that begins meanwhile would be refused.

    Raises:
        StorageError: A leftover could not be removed.
    """
    for workspace in sorted(parent.glob(".*.partial")):
        path = parent / workspace.stem.removeprefix(".")
        with storage_errors(path), claimed(path) as ours:
            lock = locked_folder(workspace) if ours and workspace.is_dir() else None
            if lock is not None:
                try:
                    _clear(workspace, path)
                finally:
                    os.close(lock)


def append_lines(path: Path, lines: Iterable[str], *, durable: bool = False) -> None:
    """Add whole lines to the end of a text file; a torn last line that a killed writer left is cut off first.

    Raises:
        ValueError: A line holds a line feed.
        StorageError: They could not be written; the file is as it was.
    """
    texts = list(lines)
    if any("\n" in text for text in texts):
        raise ValueError(f"a line for {path} holds a line feed")
    content = "".join(f"{text}\n" for text in texts).encode()
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked_file(path, buffering=0) as stream:
            end = _end_of_last_line(stream)
            stream.truncate(end)
            stream.seek(end)
            try:
                written = 0
                while written < len(content):
                    written += stream.write(content[written:])
            except OSError:
                stream.truncate(end)
                raise
            if durable:
                os.fsync(stream.fileno())


def read_lines(path: Path) -> list[str]:
    """The complete lines of a text file, without their line feeds; none where there is no file.

    Bytes that are no UTF-8 become U+FFFD, so that one damaged line does not hide the others.

    Raises:
        StorageError: It cannot be read, is no file, or is larger than any log of ours.
    """
    return [line.decode(errors="replace") for line in _content(path).split(b"\n")[:-1]]


def cut_lines(path: Path, keep: Callable[[str], bool]) -> int:
    """Drop the lines that `keep` refuses, and a torn last one; the file is replaced whole.

    Returns:
        How many complete lines were dropped.

    Raises:
        StorageError: The file could not be written; it is as it was.
    """
    content = _content(path)
    lines = content.split(b"\n")[:-1]
    kept = [line for line in lines if keep(line.decode(errors="replace"))]
    cut = b"".join(line + b"\n" for line in kept)
    if cut != content:
        write_file(path, cut)
    return len(lines) - len(kept)


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    _sync(path)


def _content(path: Path) -> bytes:
    try:
        return read_at_most(path, _MOST_LINES_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}; move it away, or restore it.") from error


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


@contextmanager
def _workspace(path: Path) -> Generator[Path]:
    """An empty, locked `.NAME.partial/`, which is gone afterwards."""
    workspace = _partial(path)
    lock = locked_folder(workspace)
    if lock is None:
        raise StorageError(f"{path} is being written by another process; wait until it has finished, or end it.")
    try:
        _heal(workspace, path)
        empty_folder(workspace)
        yield workspace
    except BaseException:
        # What went wrong first is told; what cannot be cleared away on this disk is cleared by the next writer.
        with suppress(OSError):
            _clear(workspace, path)
        raise
    else:
        _clear(workspace, path)
    finally:
        os.close(lock)


def _heal(workspace: Path, path: Path) -> None:
    """Put back what a replacement has set aside, if nothing has taken its place."""
    old = workspace / "old"
    if old.is_dir() and not path.exists():
        old.rename(path)


def _clear(workspace: Path, path: Path) -> None:
    _heal(workspace, path)
    remove_tree(workspace)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(root: Path) -> None:
    """Flush every file and folder: a rename may reach the disk before the content it names."""
    for parent, _, names in os.walk(root, topdown=False):
        for name in names:
            _sync(Path(parent) / name)
        _sync(Path(parent))


def _end_of_last_line(stream: BinaryIO) -> int:
    """Position behind the last line feed."""
    end = stream.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _BLOCK_BYTES)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
