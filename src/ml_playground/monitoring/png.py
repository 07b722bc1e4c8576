"""Small images as PNG, with nothing but the standard library.

Source: ISO/IEC 15948 (PNG), sections 5 and 11.
"""

import base64
import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2
"""Colour types of one and of three channels."""


def png(pixels: bytes, *, channels: int, height: int, width: int) -> bytes:
    """A PNG of bytes in the order of channels, rows, columns: three channels in colour, of others the first one in grey."""
    plane = height * width
    if channels == 3:  # noqa: PLR2004 - red, green, blue
        colour, line_bytes = RGB, 3 * width
        content = b"".join(
            bytes(triple) for triple in zip(*(pixels[place * plane :][:plane] for place in range(3)), strict=True)
        )
    else:
        colour, line_bytes, content = GREY, width, pixels[:plane]
    # Each line begins with the number of its filter: 0, none.
    lines = b"".join(b"\x00" + content[start : start + line_bytes] for start in range(0, len(content), line_bytes))
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(lines, 9)) + _chunk(b"IEND", b"")


def data_uri(image: bytes) -> str:
    """A PNG as an address that needs no file and no network."""
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
