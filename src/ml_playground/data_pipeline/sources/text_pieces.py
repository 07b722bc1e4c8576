"""Files to text in pieces of bounded size, with errors that name the file and the byte."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.foreign_files import content_of
from ml_playground.data_pipeline.source_protocol import SourceFile
from ml_playground.data_pipeline.sources.packed_files import MARK_BYTES, PackingError, packing_of, unpacked

# One read: large enough that its overhead does not count, small enough that all that is done with it is done in the cache.
PIECE_BYTES = 1 << 18

ENCODING_KEY = "prepare.source.encoding"


def check_encoding(encoding: str) -> None:
    """Make sure that text can be read in an encoding.

    Raises:
        ConfigError: Python knows no such encoding of text.
    """
    try:
        " ".encode(encoding)
        codecs.getincrementaldecoder(encoding)
    except (LookupError, ValueError) as error:
        raise ConfigError(
            f"{ENCODING_KEY} = {encoding!r} is no encoding of text that Python knows; "
            "use 'utf-8', 'utf-16', 'latin-1', 'cp1252' or another one of "
            "https://docs.python.org/3/library/codecs.html#standard-encodings."
        ) from error


def blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, piece by piece; what gzip or zstd packed is unpacked on the way.

    Raises:
        DataError: The file is missing, cannot be read, or is damaged.
        ConfigError: The library that reads zstd is not installed.
    """
    try:
        with path.open("rb") as stream:
            packing = packing_of(path.name, stream.peek(MARK_BYTES)[:MARK_BYTES])
            yield from unpacked(stream, packing, PIECE_BYTES) if packing else _as_they_are(stream)
    except PackingError as error:
        raise DataError(f"{path} cannot be unpacked: {error}. Fetch it again, or pack it anew.") from error
    except OSError as error:
        raise unreadable(path, error) from error


def is_packed(path: Path) -> bool:
    """Whether `blocks` gives other bytes than the file has; false for what cannot be read."""
    try:
        with path.open("rb") as stream:
            return packing_of(path.name, stream.read(MARK_BYTES)) is not None
    except (OSError, PackingError):
        return False


def _as_they_are(stream: BinaryIO) -> Iterator[bytes]:
    while block := stream.read(PIECE_BYTES):
        yield block


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that is there but does not open."""
    return DataError(
        f"{path} cannot be read: {error.strerror or error}; give yourself the right to read it, "
        "or name another file in prepare.source."
    )


def file_account(path: Path, name: str) -> SourceFile:
    """Size and hash of a file, packed or not.

    Raises:
        DataError: The file is missing or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            content = content_of(_as_they_are(stream))
    except OSError as error:
        raise unreadable(path, error) from error
    return SourceFile(name=name, **content._asdict())


def text_pieces(path: Path, encoding: str, *, takes_nul: bool = False) -> Iterator[str]:
    """The text of a file, unpacked if need be, piece by piece, line ends as they are.

    Args:
        path: The file.
        encoding: How its bytes are read.
        takes_nul: For whoever looks for NUL itself and knows the row that it stands in.

    Raises:
        DataError: The file cannot be read, is damaged, is binary, or is not in that encoding.
    """
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    start_byte = 0
    for block in blocks(path):
        kept_bytes = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block)
        except UnicodeError as error:
            raise _not_text(path, encoding, block, start_byte - kept_bytes, error) from error
        if "\0" in text and not takes_nul:
            raise binary(path, encoding, start_byte)
        _check_characters(path, encoding, text, start_byte)
        start_byte += len(block)
        if text:
            yield text
    kept_bytes = len(decoder.getstate()[0])
    try:
        rest = decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise _not_text(path, encoding, b"", start_byte - kept_bytes, error) from error
    if rest:
        yield rest


def _check_characters(path: Path, encoding: str, text: str, start_byte: int) -> None:
    """Half a surrogate pair, which some encodings let through, cannot be written as UTF-8."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}, read as {encoding}, holds half a surrogate pair ({text[error.start]!r}) after byte {start_byte}; "
            f"that is no character. Set {ENCODING_KEY} to what the file is written in, or mend the file."
        ) from error


def binary(path: Path, encoding: str, start_byte: int) -> DataError:
    """The error for a file with NUL in it."""
    return DataError(
        f"{path} is binary: read as {encoding}, it holds NUL after byte {start_byte}, which no text does. "
        f"Name a text file in prepare.source; if it is UTF-16, set {ENCODING_KEY} = 'utf-16'."
    )


def _not_text(path: Path, encoding: str, block: bytes, start_byte: int, error: UnicodeError) -> DataError:
    mend = f"Set {ENCODING_KEY} to what the file is written in (often 'latin-1' or 'cp1252'), or mend the file."
    if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and start_byte == 0:
        return DataError(f"{path} is not {encoding} but UTF-16; set {ENCODING_KEY} = 'utf-16'.")
    if b"\0" in block:
        return binary(path, encoding, start_byte)
    if not isinstance(error, UnicodeDecodeError):
        # UTF-16 without the mark that tells the order of its bytes, say.
        return DataError(f"{path} is not {encoding}: {error}. {mend}")
    got = f"0x{error.object[error.start]:02x}"
    return DataError(
        f"{path} is not {encoding}: byte {got} at offset {start_byte + error.start} ({error.reason}). {mend}"
    )
