"""Files of the idx format, plain or packed with gzip: their head, and what follows, a piece at a time.

Two zero bytes, the type (0x08 for bytes), the number of dimensions, each dimension as 4 bytes (the highest first), then the numbers.
Source: LeCun, Cortes and Burges, "The MNIST database", section "File formats".
"""

import gzip
import zlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.sources.text_pieces import unreadable

UNSIGNED_BYTES = 0x08
PACKED = b"\x1f\x8b"
MOST_SIDE = 4096
"""Rows or columns of an image: no more are read, whatever a head says."""
MOST_NUMBERS = 1 << 34
"""Of a file: 16 GB, a hundred times the largest data set of this format."""


@contextmanager
def opened(path: Path, dimensions: int) -> Generator[tuple[tuple[int, ...], BinaryIO]]:
    """The dimensions of an idx file, and a stream behind its head; nothing of that size is allocated.

    Raises:
        DataError: It cannot be read, or is no idx file of bytes with so many dimensions.
    """
    with ExitStack() as files:
        with _named(path):
            plain = files.enter_context(path.open("rb"))
            packed = plain.read(len(PACKED)) == PACKED
            plain.seek(0)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if packed else plain
            sizes = _head(path, stream, dimensions)
            if not packed:
                _check_length(path, path.stat().st_size, sizes)
        yield sizes, stream


def items(path: Path, stream: BinaryIO, count: int, size_bytes: int) -> Iterator[bytes]:
    """The items behind a head, one at a time.

    Raises:
        DataError: The file ends before the last one, goes on after it, or is damaged.
    """
    for number in range(count):
        with _named(path):
            content = stream.read(size_bytes)
        if len(content) < size_bytes:
            raise DataError(f"{path} ends in the midst of item {number + 1} of {count}; fetch or copy it again.")
        yield content
    with _named(path):
        rest = stream.read(1)
    if rest:
        raise DataError(f"{path} goes on after the {count} items that its head promises; fetch or copy it again.")


@contextmanager
def _named(path: Path) -> Generator[None]:
    """Errors of reading, with the file in them."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}; fetch or copy it again.") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _head(path: Path, stream: BinaryIO, dimensions: int) -> tuple[int, ...]:
    start = stream.read(4)
    expected = bytes([0, 0, UNSIGNED_BYTES, dimensions])
    if start != expected:
        raise DataError(
            f"{path} begins with {start.hex() or 'nothing'}, not with {expected.hex()} as an idx file of bytes in {dimensions} "
            f"dimension{'s' if dimensions > 1 else ''} does; name such a file."
        )
    raw = stream.read(4 * dimensions)
    sizes = tuple(int.from_bytes(raw[place : place + 4], "big") for place in range(0, len(raw) - 3, 4))
    total = 1
    for size in sizes:
        total *= size
    sides = sizes[1:]
    if len(raw) < 4 * dimensions or not total or total > MOST_NUMBERS or any(side > MOST_SIDE for side in sides):
        raise DataError(
            f"{path} says that it holds {' x '.join(map(str, sizes)) or 'nothing'} bytes; at most {MOST_NUMBERS} are read, in images "
            f"of at most {MOST_SIDE} x {MOST_SIDE}, and at least one. Fetch or copy it again."
        )
    return sizes


def _check_length(path: Path, size_bytes: int, sizes: tuple[int, ...]) -> None:
    """A plain file tells at once whether it holds what its head promises."""
    total = 4 + 4 * len(sizes)
    numbers = 1
    for size in sizes:
        numbers *= size
    if size_bytes != total + numbers:
        raise DataError(
            f"{path} has {size_bytes} bytes, but {' x '.join(map(str, sizes))} numbers and their head take {total + numbers}; "
            "fetch or copy it again."
        )
