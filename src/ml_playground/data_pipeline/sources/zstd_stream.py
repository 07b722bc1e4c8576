"""Bytes out of zstd, frame after frame, in bounded memory."""

from collections.abc import Iterator
from typing import BinaryIO

import zstandard

from ml_playground.data_pipeline.sources.packed_files import PackingError

FED_BYTES = 1 << 9
"""Four bytes may stand for 128 KiB, and all that one call unpacks is held: so much never unpacks to more than 16 MiB."""
MOST_WINDOW_BYTES = 1 << 27
"""How far back a frame may copy from, which must be kept; the tool `zstd` asks for leave above this, too."""


def unpacked(stream: BinaryIO, piece_bytes: int) -> Iterator[bytes]:
    """The bytes inside, in pieces of about that size.

    Raises:
        PackingError: The file is damaged, ends too early, or asks for too much memory.
    """
    unpacker = zstandard.ZstdDecompressor(max_window_size=MOST_WINDOW_BYTES)
    frame: zstandard.ZstdDecompressionObj | None = None
    held: list[bytes] = []
    held_bytes = 0
    while fed := stream.read(FED_BYTES):
        while fed:
            if frame is None:
                frame = unpacker.decompressobj()
            try:
                piece = frame.decompress(fed)
            except zstandard.ZstdError as error:
                raise PackingError(str(error)) from error
            fed = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
            held.append(piece)
            held_bytes += len(piece)
        if held_bytes >= piece_bytes:
            yield b"".join(held)
            held, held_bytes = [], 0
    if frame is not None:
        raise PackingError("it ends in the middle of a frame")
    if held_bytes:
        yield b"".join(held)
