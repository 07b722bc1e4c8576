"""Texts cut at blanks after visible characters, in numpy: what holds of every common pre-tokenizer, newer than GPT-2's, too."""

import re
from collections.abc import Sequence

import numpy as np

from ml_playground.tokenization.ascii_words import SEPARATOR, Words, joined, words_at

# In none of them a piece goes on at a blank behind something visible; at a line break it may ("!\n" is one in cl100k).
BLANK_CUT = re.compile(r"(?<=[!-~\w])(?= )")

FIRST_VISIBLE, LAST_VISIBLE, BLANK = ord("!"), ord("~"), ord(" ")


def split_at_blanks(texts: Sequence[str]) -> Words:
    """Stretches that begin with a blank behind a visible character of ASCII.

    Raises:
        UnicodeEncodeError: A text holds half a surrogate pair.
    """
    raw = joined(texts)
    here = np.frombuffer(raw, dtype=np.uint8)
    before = np.append(np.uint8(SEPARATOR), here)[:-1]
    begins = (here == BLANK) & (before >= FIRST_VISIBLE) & (before <= LAST_VISIBLE)
    begins |= (here == SEPARATOR) | (before == SEPARATOR)
    return words_at(raw, np.flatnonzero(begins))
