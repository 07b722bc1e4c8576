"""Failures of the disk in words: what could not be written, why, how much is free, what to do."""

import errno
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ml_playground.core.error_handling import StorageError

_ELSEWHERE = "or set MLP_HOME to a folder on another disk"
_RIGHTS = "give yourself the right to write in its folder, or set MLP_HOME to a folder of yours"
_RENAME = "move it away or choose another name"

_REASONS = {
    errno.ENOSPC: ("the disk is full", f"free some space {_ELSEWHERE}"),
    errno.EDQUOT: ("your quota on this disk is used up", f"delete what you no longer need {_ELSEWHERE}"),
    errno.EFBIG: ("the file would be larger than allowed here", f"raise the limit (ulimit -f) {_ELSEWHERE}"),
    errno.EACCES: ("permission denied", _RIGHTS),
    errno.EPERM: ("the operation is not permitted", _RIGHTS),
    errno.EROFS: ("the file system is read-only", f"mount it writable {_ELSEWHERE}"),
    errno.ENOENT: (
        "a folder of this path is gone and cannot be made",
        "restore it, or set MLP_HOME to a folder of yours",
    ),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", _RENAME),
    errno.EEXIST: ("something else of this name is in the way", _RENAME),
    errno.EISDIR: ("a folder of this name is in the way", _RENAME),
    errno.ENAMETOOLONG: ("the name is too long for this file system", "choose a shorter name"),
    errno.ELOOP: ("a link of this name is in the way", "remove it, for what is written could land anywhere"),
    errno.EIO: ("the disk reports an error", f"check the disk, {_ELSEWHERE}"),
}


def free_bytes(path: Path) -> int:
    """Bytes that are free where `path` is or would be."""
    try:
        return shutil.disk_usage(path.absolute()).free
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        # Not there yet, or in a folder that may not be looked into: its disk is that of the folder above.
        return free_bytes(path.absolute().parent)


def readable_size(size_bytes: int) -> str:
    """`512 B`, `1.5 MB`: decimal units, as disks are sold."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004 - the step between decimal units
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def as_storage_error(error: OSError, path: Path, moved_by: str = "MLP_HOME") -> StorageError | None:
    """The failure in words, or None where its user can do nothing about it; `moved_by` is the variable that names the folder."""
    if error.errno not in _REASONS:
        return None
    reason, remedy = _REASONS[error.errno]
    return StorageError(
        f"Could not write {path}: {reason} ({readable_size(free_bytes(path))} free there); "
        f"{remedy.replace('MLP_HOME', moved_by)}. "
        "Nothing half-written was left."
    )


@contextmanager
def storage_errors(path: Path, moved_by: str = "MLP_HOME") -> Generator[None]:
    """Turn failures to write `path` into a StorageError.

    A failure that names a file elsewhere (a source that is being copied, say) is none of ours and passes unchanged.

    Args:
        path: What is written.
        moved_by: The environment variable that moves it to another disk.

    Raises:
        StorageError: The disk is full, the place may not be written, or something is in the way.
    """
    try:
        yield
    except OSError as error:
        named = error.filename
        ours = named is None or not isinstance(named, str) or Path(named).is_relative_to(path.parent)
        ours = ours or (isinstance(named, str) and path.is_relative_to(Path(named)))
        translated = as_storage_error(error, path, moved_by) if ours else None
        if translated is None:
            raise
        raise translated from error
