"""Images as PNG: what is read back is what was written."""

import base64
import struct
import zlib

from hypothesis import given
from hypothesis import strategies as st

from ml_playground.monitoring.png import SIGNATURE, data_uri, png


def chunks_of(content: bytes) -> dict[bytes, bytes]:
    """Kind -> content, each with its check sum verified."""
    found: dict[bytes, bytes] = {}
    place = len(SIGNATURE)
    while place < len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        kind, body = content[place + 4 : place + 8], content[place + 8 : place + 8 + size]
        (check,) = struct.unpack(">I", content[place + 8 + size : place + 12 + size])
        assert check == zlib.crc32(kind + body)
        found[kind] = body
        place += 12 + size
    return found


@given(
    channels=st.sampled_from([1, 2, 3, 4]), height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 9)
)
def test_png_of_any_pixels_gives_them_back(channels: int, height: int, width: int, seed: int) -> None:
    """Three channels in colour, of others the first in grey, in the order of rows."""
    pixels = bytes((seed + 7 * place) % 256 for place in range(channels * height * width))
    chunks = chunks_of(png(pixels, channels=channels, height=height, width=width))
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    colours = 3 if channels == 3 else 1
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (width, height, 8, 2 if colours == 3 else 0, 0, 0, 0)
    lines = zlib.decompress(chunks[b"IDAT"])
    line_bytes = 1 + width * colours
    rows = [lines[start : start + line_bytes] for start in range(0, len(lines), line_bytes)]
    assert [row[0] for row in rows] == [0] * height
    plane = height * width
    for row, line in enumerate(rows):
        for column in range(width):
            dot = line[1 + column * colours : 1 + (column + 1) * colours]
            assert dot == bytes(pixels[channel * plane + row * width + column] for channel in range(colours))


def test_data_uri_holds_the_whole_image() -> None:
    """A report asks for nothing from outside."""
    image = png(b"\x00\xff", channels=1, height=1, width=2)
    head, _, content = data_uri(image).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(content) == image
