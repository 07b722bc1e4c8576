"""Text from which nothing can be learned but to repeat: one character, one line, one phrase, over and over. Pure: bytes in, faults out."""

import re
import zlib
from collections.abc import Iterator
from itertools import groupby

import numpy as np

from ml_playground.data_pipeline.checks.findings import Fault

MOST_CHARACTERS = 200
"""Of one kind in a row; rulers of comments end before."""
MOST_LINES = 50
"""Equal ones in a row; the most in the standard library of Python are 32, in the table of a code page."""
LEAST_TEXT_BYTES = 400
"""Below this a text compresses badly whatever it says."""
LEAST_RATIO = 1 / 15
"""Of compressed to plain: prose is near 0.45, code 0.25, tables of numbers 0.2, one phrase repeated 0.02."""
SAMPLE_BYTES = 8192
_PHRASE_BYTES = 12
_PROBE_BYTES = 64
# Below this a loop is faster than numpy, which takes ten microseconds to begin.
_VECTOR_BYTES = 1 << 13
# A character has one to four bytes: whatever its length, repeating it repeats its bytes after twelve.
_PERIOD = 12
_ONE_CHARACTER = re.compile(rf"([^\s])\1{{{MOST_CHARACTERS - 1},}}")


def repeated_characters(passage: bytes) -> Iterator[Fault]:
    """Runs of one character, at least `MOST_CHARACTERS` long; white space does not count."""
    if not _may_repeat(passage):
        return
    text = passage.decode("utf-8", "replace")
    index = offset = 0
    for match in _ONE_CHARACTER.finditer(text):
        start = offset + len(text[index : match.start()].encode())
        end = start + len(match[0].encode())
        yield Fault("repeated_character", f"{match[1]!r} {len(match[0]):,} times", start, end)
        index, offset = match.end(), end


def _may_repeat(passage: bytes) -> bool:
    """Whether some 64 bytes of a fixed grid equal those twelve bytes later: true wherever 200 bytes repeat one character."""
    length = (len(passage) - _PERIOD) // _PROBE_BYTES * _PROBE_BYTES
    if length < _VECTOR_BYTES:
        starts = range(0, length, _PROBE_BYTES)
        shifted = _PERIOD + _PROBE_BYTES
        return any(passage[at : at + _PROBE_BYTES] == passage[at + _PERIOD : at + shifted] for at in starts)
    values = np.frombuffer(passage, np.uint8)
    equal = values[:length] == values[_PERIOD : length + _PERIOD]
    return bool(equal.reshape(-1, _PROBE_BYTES).all(axis=1).any())


def repeated_lines(paragraph: bytes) -> Iterator[Fault]:
    """Stretches of at least `MOST_LINES` equal lines; blank ones do not count."""
    if paragraph.count(b"\n") < MOST_LINES - 1:
        return
    rows = paragraph.split(b"\n")
    if len(set(rows)) > len(rows) - MOST_LINES + 1:
        return
    offset = 0
    for row, group in groupby(rows):
        times = sum(1 for _ in group)
        if times >= MOST_LINES and row.strip():
            yield Fault("repeated_line", f"{times:,} times", offset, offset + len(row))
        offset += times * (len(row) + 1)


def repeats_itself(text: bytes) -> bool:
    """Whether a text is little more than one phrase: it compresses to less than a fifteenth."""
    if len(text) < LEAST_TEXT_BYTES:
        return False
    middle = len(text) // 2
    sample = text[max(0, middle - SAMPLE_BYTES // 2) : middle + SAMPLE_BYTES // 2]
    # A phrase of the middle that stands nowhere else rules it out, forty times faster than compressing does.
    phrase = text[middle : middle + _PHRASE_BYTES]
    return sample.count(phrase) > 1 and len(zlib.compress(sample, 1)) < LEAST_RATIO * len(sample)
