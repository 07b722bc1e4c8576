"""Reads files that a stranger may have written: no pipe, no device, no more bytes and no deeper JSON than is said.

What is refused here costs neither the time nor the memory that the file asks for.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

# Ours are below a megabyte, but for vocabularies; a larger one is damage or malice and is not worth the memory to parse it.
MOST_JSON_BYTES = 64 << 20

DEEPEST_JSON = 50
"""Tables and lists inside each other; a job has five. Whoever walks through what was parsed may then do so by recursion."""

MOST_NAME_BYTES = 255
"""Of one part of a path: what common file systems take."""

_FIRST_PRINTABLE = " "
# Windows opens the device, whatever follows the first dot.
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(10))}
)


def is_plain(name: str) -> bool:
    """Whether a name, its parts joined by `/`, can only mean a file inside a folder, on every system.

    Refused are absolute paths, `..`, drives and devices of Windows, backslashes, control characters, and parts that are
    empty, too long, or end in what Windows drops.
    """
    return PurePosixPath(name).as_posix() == name and all(_is_plain_part(part) for part in name.split("/"))


def _is_plain_part(part: str) -> bool:
    return (
        part not in ("", ".", "..")
        and not any(letter < _FIRST_PRINTABLE or letter in "\\:\x7f" for letter in part)
        and part[-1] not in ". "
        and part.partition(".")[0].rstrip().casefold() not in _DEVICES
        and len(part.encode("utf-8", "surrogatepass")) <= MOST_NAME_BYTES
    )


def read_at_most(path: Path, most_bytes: int = MOST_JSON_BYTES) -> bytes:
    """The bytes of a regular file.

    Anything else is refused unread: a pipe would be waited for without end, a device read without end.

    Raises:
        OSError: It cannot be opened, is no regular file, or is larger.
    """
    # A pipe opens at once instead of waiting for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(descriptor)
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))
        if state.st_size > most_bytes:
            raise OSError(errno.EFBIG, f"it holds {state.st_size} bytes, at most {most_bytes} are read", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            # A file that grows meanwhile, as a log does, is read as far as it went.
            return stream.read(state.st_size)
    finally:
        os.close(descriptor)


class Content(NamedTuple):
    """What a file holds."""

    size_bytes: int
    sha256: str


def content_of(blocks: Iterable[bytes]) -> Content:
    """Size and hash of what comes in pieces."""
    digest = hashlib.sha256()
    size_bytes = 0
    for block in blocks:
        digest.update(block)
        size_bytes += len(block)
    return Content(size_bytes, digest.hexdigest())


def parsed_json(content: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is no JSON, a number in it has thousands of digits, or it is nested deeper than `DEEPEST_JSON`.
    """
    try:
        value: Any = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level: list[Any] = [value]
    for _ in range(DEEPEST_JSON):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return value
    raise ValueError(f"it is nested deeper than {DEEPEST_JSON} levels")


def json_table(content: bytes | str) -> dict[str, Any]:
    """The object in a JSON text.

    Raises:
        ValueError: As `parsed_json`, or it holds something else.
    """
    value = parsed_json(content)
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")  # noqa: TRY004 - it is the text that is wrong, not a type in the program
    return cast(dict[str, Any], value)


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return cast(dict[str, Any], value).values()
    return cast(list[Any], value) if isinstance(value, list) else ()
