"""Files packed by gzip or zstd, unpacked as a stream: what they hold, or claim to hold, is never in memory at once."""

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import BinaryIO, Literal

from ml_playground.core.registry import load_object

Packing = Literal["gzip", "zstd"]
ENDINGS: Mapping[str, Packing] = {".gz": "gzip", ".zst": "zstd"}
MARK_BYTES = 4
"""Of the beginning of a file, by which its packing is known."""

_ZSTD = "ml_playground.data_pipeline.sources.zstd_stream:unpacked"
_GZIP_MARK = b"\x1f\x8b"
_ZSTD_MARK = b"\x28\xb5\x2f\xfd"
# A frame that is to be skipped, 0x50 to 0x5f before these three: `pzstd` begins its files so.
_SKIPPED_MARK = b"\x2a\x4d\x18"


class PackingError(Exception):
    """A packed file is damaged; the text says how."""


def plain_name(name: str) -> str:
    """A name without the ending of its packing: `a.txt` for `a.txt.gz`."""
    path = PurePath(name)
    return name[: -len(path.suffix)] if path.suffix.lower() in ENDINGS and path.stem else name


def packing_of(name: str, start: bytes) -> Packing | None:
    """How a file is packed, by its first bytes; text in no encoding in use begins with these.

    Raises:
        PackingError: Its name says that it is packed, and it is not.
    """
    if start.startswith(_GZIP_MARK):
        return "gzip"
    if start.startswith(_ZSTD_MARK) or (start[1:4] == _SKIPPED_MARK and start[0] >> 4 == 5):  # noqa: PLR2004 - see above
        return "zstd"
    expected = ENDINGS.get(PurePath(name).suffix.lower())
    if expected and start:
        raise PackingError(f"its name says {expected}, its bytes do not; give it the ending of what it is")
    return None


def unpacked(stream: BinaryIO, packing: Packing, piece_bytes: int) -> Iterator[bytes]:
    """The bytes inside, in pieces of about that size.

    Raises:
        PackingError: The file is damaged, or ends too early.
        ConfigError: The library that reads zstd is not installed.
    """
    if packing == "zstd":
        unpack: Callable[[BinaryIO, int], Iterator[bytes]] = load_object(_ZSTD)
        yield from unpack(stream, piece_bytes)
        return
    try:
        with gzip.GzipFile(fileobj=stream) as inside:
            while piece := inside.read(piece_bytes):
                yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise PackingError(str(error)) from error
