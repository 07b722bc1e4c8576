"""Mojibake: UTF-8 that was read as Latin-1 or Windows-1252 and saved again, so that `ä` became `Ã¤`.

A stretch is taken for mojibake if its letters, written back as bytes of that code page, are whole UTF-8 sequences, and if it would be a
strange thing to write on purpose. The second half matters: in correct French `é` may stand before a no-break space and `»`, in correct
German `ß` before `“`, and both are the bytes of one character.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_PAGE = {byte: bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xC0)}
# Windows-1252 leaves five bytes undefined; there, and in Latin-1, a byte is the character of its number.
_TO_LATIN_1 = {ord(letter): byte for byte, letter in _PAGE.items() if letter}
_TAIL = "[\u0080-\u00bf" + "".join(letter for byte, letter in _PAGE.items() if letter and byte < 0xA0) + "]"  # noqa: PLR2004
_RUN = re.compile(f"(?:[\u00c2-\u00df]{_TAIL}|[\u00e0-\u00ef]{_TAIL}{{2}}|[\u00f0-\u00f4]{_TAIL}{{3}})+")

# The same in UTF-8, over whole stretches of bytes: a first letter of a run, and what may follow it.
SCREEN = re.compile(
    rb"\xc3[\x82-\xb4](?:\xc2[\x80-\xbf]|\xe2[\x80\x82\x84]|\xc5[\x92\x93\xa0\xa1\xb8\xbd\xbe]|\xc6\x92|\xcb[\x86\x9c])"
)

# What may stand behind an accented letter in correct text: closing marks, apostrophes, dashes, spaces, signs, letters.
_CLOSING = "”“‘»›™®©°²³¹ªº·"  # noqa: RUF001
_PLAUSIBLE = frozenset(_CLOSING + "’…–—«‹•\u00a0\u00adŠšŽžŒœŸ")  # noqa: RUF001
_MOST_ROUNDS = 3


class Run(NamedTuple):
    """A stretch of mojibake."""

    start: int
    """Characters of the text before it."""
    end: int
    mended: str
    """What it was before."""


def runs(text: str) -> Iterator[Run]:
    """Every stretch of mojibake, in order."""
    for found in _RUN.finditer(text):
        whole = _decoded(found[0])
        if whole is not None and _is_strange(text, found.start(), found.end(), len(whole)):
            yield Run(found.start(), found.end(), mended(whole))


def mended(text: str) -> str:
    """The text as it was before it was read wrongly, once or several times."""
    for _ in range(_MOST_ROUNDS):
        pieces: list[str] = []
        end = 0
        for found in _RUN.finditer(text):
            whole = _decoded(found[0])
            if whole is not None and _is_strange(text, found.start(), found.end(), len(whole)):
                pieces += [text[end : found.start()], whole]
                end = found.end()
        if not pieces:
            return text
        text = "".join([*pieces, text[end:]])
    return text


def _decoded(run: str) -> str | None:
    """What the bytes of a run mean in UTF-8; None where they mean nothing (too long a form, half a surrogate pair)."""
    try:
        return run.translate(_TO_LATIN_1).encode("latin-1").decode()
    except UnicodeDecodeError:
        return None


def _is_strange(text: str, start: int, end: int, characters: int) -> bool:
    """Whether nobody would write this on purpose."""
    lead, tail = text[start], text[start + 1 : end]
    before, after = text[start - 1 : start], text[end : end + 1]
    if characters > 1 or len(tail) > 2 or any("\x80" <= letter <= "\x9f" for letter in tail):  # noqa: PLR2004
        return True
    if lead in "\u00d7\u00d8":
        # A sign of multiplication before a fraction, one of a diameter; Hebrew and Arabic come in runs of several characters.
        return False
    if before.islower() and lead.isupper():
        return True
    if any(letter not in _PLAUSIBLE for letter in tail):
        return True
    if len(tail) == 1 and tail in _CLOSING and after.isalpha():
        return True
    # No language has these two alone or behind a small letter; Portuguese ends words in capitals with them (IRMÃ”).
    return lead in "ÃÂ" and (after.isalpha() or not before.isupper())
