"""Texts cut at blanks after visible characters, in numpy: what holds of every common pre-tokenizer, newer than GPT-2's, too."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml_playground.tokenization.ascii_words import ASCII_BYTES, SEPARATOR, Words, joined, words_at

# In none of them a piece goes on at a blank behind something visible; at a line break it may ("!\n" is one in cl100k).
BLANK_CUT = re.compile(r"(?<=[!-~\w])(?= )")

FIRST_VISIBLE, LAST_VISIBLE, BLANK = ord("!"), ord("~"), ord(" ")
_VISIBLE = re.compile(r"[!-~\w]")
LONGEST_BYTES = 4
"""Of a character in UTF-8."""


def split_at_blanks(texts: Sequence[str]) -> Words:
    """Stretches that end wherever `BLANK_CUT` cuts.

    Raises:
        UnicodeEncodeError: A text holds half a surrogate pair.
    """
    raw = joined(texts)
    here = np.frombuffer(raw, dtype=np.uint8)
    before = np.append(np.uint8(SEPARATOR), here)[:-1]
    blank = here == BLANK
    begins = blank & (before >= FIRST_VISIBLE) & (before <= LAST_VISIBLE)
    if len(asked := np.flatnonzero(blank & (before >= ASCII_BYTES))):
        begins[asked] = _behind_visible(here, asked)
    begins |= (here == SEPARATOR) | (before == SEPARATOR)
    return words_at(raw, np.flatnonzero(begins))


def _behind_visible(raw: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the character beyond ASCII before each place is visible, (places,); each different one is looked at once."""
    padded = np.concatenate([np.zeros(LONGEST_BYTES, dtype=np.uint8), raw])
    endings = padded[places[:, None] + np.arange(LONGEST_BYTES)].copy().view(np.uint32)[:, 0]
    different, which = np.unique(endings, return_inverse=True)
    # What is left of the character before is no whole one.
    last = (ending.tobytes().decode(errors="ignore")[-1:] for ending in different)
    return np.array([_VISIBLE.match(character) is not None for character in last])[which]
