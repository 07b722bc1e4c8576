"""Texts to groups of n characters in numpy; they begin anew with each word, so that a word has the same groups everywhere."""

import re
from collections.abc import Sequence

import numpy as np

from ml_playground.tokenization.ascii_words import SEPARATOR, Words, joined, words_at

# A word begins with the blank or line break that follows anything else than white space.
BEGINNING = re.compile(r"(?<=[^ \t-\r])(?=[ \n])")
_LAST_BEGINNING = re.compile(r"(?s:.*)(?<=[^ \t-\r])(?=[ \n])")

# So many characters behind the beginning of a word a group ends, whatever n of 1 to 8: it is a multiple of them all.
MEETING = 840
BLANK, LINE_BREAK, FIRST_WHITE, LAST_WHITE = ord(" "), ord("\n"), ord("\t"), ord("\r")


def split_groups(texts: Sequence[str], n: int) -> Words:
    """Groups of n characters; the last one of a word may be shorter.

    Raises:
        UnicodeEncodeError: A text holds half a surrogate pair.
    """
    raw = joined(texts)
    codes = np.frombuffer(raw, dtype=np.uint8)
    # The first byte of each character tells all that is asked; separators count as characters.
    firsts = np.flatnonzero((codes & 0xC0) != 0x80)  # noqa: PLR2004 - bytes within a character
    here = codes[firsts]
    before = np.append(np.uint8(SEPARATOR), here)[:-1]
    white = (before == BLANK) | ((before >= FIRST_WHITE) & (before <= LAST_WHITE))
    begins = ((here == BLANK) | (here == LINE_BREAK)) & ~white
    begins |= (here == SEPARATOR) | (before == SEPARATOR)
    place = np.arange(len(firsts))
    since = place - np.maximum.accumulate(np.where(begins, place, 0))
    return words_at(raw, firsts[since % n == 0])


def safe_cut(text: str, start: int) -> int | None:
    """Where a word begins, or, if none does soon, where groups of every size end."""
    if start <= 0:
        return start
    found = BEGINNING.search(text, start, start + MEETING + 1)
    if found:
        return found.start()
    if len(text) <= start + MEETING:
        return None
    last = _LAST_BEGINNING.match(text, 0, start)
    begun = last.end() if last else 0
    return start + (begun - start) % MEETING
