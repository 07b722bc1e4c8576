"""In which encoding bytes make sense that are no UTF-8: strict decoding, then the share of characters that are usual in it."""

import codecs
import re
from typing import NamedTuple

SAMPLE_BYTES = 1 << 16
_UNICODE_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# English as UTF-16 is half NUL, German nearly so; no text in bytes has any.
_NUL_SHARE = 0.3
# Of eight characters of UTF-16 by chance none is a NUL in one half and all in the other.
_LEAST_BYTES = 8


class Candidate(NamedTuple):
    """An encoding, and when text in it is plausible."""

    name: str
    usual: re.Pattern[str]
    """Characters that make up most of what is beyond ASCII in such text."""
    share: float
    """Least share of them."""


# In this order: kana prove Japanese, and syllables Korean, before their bytes are taken for Chinese; capitals and small letters change
# places between the two Cyrillic ones; nearly every text is something in Windows-1252, so it comes last.
_CANDIDATES = (
    Candidate("euc_jp", re.compile("[\u3040-\u30ff]"), 0.3),
    Candidate("shift_jis", re.compile("[\u3040-\u30ff]"), 0.3),
    Candidate("euc_kr", re.compile("[\uac00-\ud7a3]"), 0.95),
    Candidate("gb18030", re.compile("[\u4e00-\u9fff\u3000-\u3011\uff00-\uff5e“”]"), 0.95),
    Candidate("big5", re.compile("[\u4e00-\u9fff\u3000-\u3011\uff00-\uff5e“”]"), 0.95),
    Candidate("cp1251", re.compile("[\u0430-\u044f\u0451—«»№]"), 0.7),
    Candidate("koi8_r", re.compile("[\u0430-\u044f\u0451]"), 0.7),
    Candidate("cp1252", re.compile("[ßà-öø-üÄÖÜÉÈÀÇÅØÆÑœ“”„’‘–—…€§°«»\u00a0]"), 0.7),  # noqa: RUF001
    Candidate("cp1250", re.compile("[ąćęłńóśźżĄĆĘŁŃÓŚŹŻáčďéěíňřšťúůýžÁČĎÉĚÍŇŘŠŤÚŮÝŽőűŐŰăâîşţ]"), 0.7),
)
# Only letters with accents stand beside ASCII letters; a byte of another script next to one is a sign of a wrong guess.
_LATIN = frozenset({"cp1252", "cp1250"})
_BESIDE_ASCII = re.compile("[A-Za-z][^\\x00-\\x7f]|[^\\x00-\\x7f][A-Za-z]")
_MOST_BESIDE = 0.3
# Of the two thousand commonest characters: rare ones are what other encodings' bytes look like.
_COMMON_PAIRS = {"gb18030": (0xB0, 0xD7), "big5": (0xA4, 0xC6)}


def fitting_encoding(sample: bytes) -> str | None:
    """The name that Python has for the encoding of a sample that is no UTF-8; None where none makes sense."""
    for mark, name in _UNICODE_MARKS:
        if sample.startswith(mark):
            return name
    if by_nul := _utf_16(sample):
        return by_nul
    if b"\0" in sample:
        return None
    for candidate in _CANDIDATES:
        text = _decoded(sample, candidate.name)
        if text is not None and _is_plausible(text, candidate):
            return candidate.name
    return None


def _utf_16(sample: bytes) -> str | None:
    """UTF-16 without a mark, by where its NULs are."""
    if len(sample) < _LEAST_BYTES:
        return None
    even, odd = sample[::2], sample[1::2]
    for name, high, low in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if high.count(0) > _NUL_SHARE * len(high) and not low.count(0):
            return name
    return None


def _decoded(sample: bytes, encoding: str) -> str | None:
    """The text; a character that the sample cuts at its end does not count."""
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(sample)
    except UnicodeDecodeError:
        return None


def _is_plausible(text: str, candidate: Candidate) -> bool:
    beyond = [letter for letter in text if letter > "\x7f"]
    if not beyond or any("\x80" <= letter <= "\x9f" for letter in beyond):
        return False
    usual = sum(candidate.usual.match(letter) is not None for letter in beyond)
    if usual < candidate.share * len(beyond):
        return False
    if candidate.name not in _LATIN and len(_BESIDE_ASCII.findall(text)) > _MOST_BESIDE * len(beyond):
        return False
    first, last = _COMMON_PAIRS.get(candidate.name, (0, 255))
    leads = [letter.encode(candidate.name)[0] for letter in beyond if letter >= "\u4e00"]
    return sum(first <= lead <= last for lead in leads) >= 0.8 * len(leads)
