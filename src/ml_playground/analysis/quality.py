"""What can be seen of drawn texts without reading them: their headers, lines, runs of words, and what is odd about them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

HEADER_LINES = 10
"""Among the first so many lines of a text `Name: value` is a header."""
MOST_REPEATED = 15
"""Entries of a list of the most frequent."""
YEARS = range(1500, 2101)
"""What may be a year; other numbers of four digits are none."""
LOOP_REPEATS = 4
"""A text that ends in so many repetitions of a phrase has run into a loop."""
LONGEST_LOOP = 200
"""Characters of a phrase that is looked for at the end of a text."""
SHORTEST_LOOP = 12
"""Characters of all its repetitions, below which it is a row of dots or digits."""
LONG_LINE = 2000
"""Characters of a line that nobody breaks."""

_HEADER = re.compile(r"^[ \t]*([^\W\d_][\w .-]{0,24}?)[ \t]*:[ \t]*(\S.*)$")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_YEAR = re.compile(r"(?<![\d.,])\d{4}(?![\d])")
_END_OF_SENTENCE = re.compile(r"[.!?…:;][\"'»«\u201d\u201c\u2019)\]}]*\s*$")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_YEAR_NAMES = frozenset({"jahr", "year", "datum", "date"})
_PAIRS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Headers:
    """Lines such as `Speaker: Anna` at the beginning of texts."""

    texts: int
    """With at least one of them."""
    names: Mapping[str, int]
    """How many texts have a header of this name, most first."""
    values: Mapping[str, Mapping[str, int]]
    """For each name its most frequent values."""
    years: Mapping[str, int]
    """Years in headers that say when, in order."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Of all texts together."""

    total: int
    non_empty: int
    distinct: int
    """Of those that are not empty, white space at their ends aside."""
    longest_run: int
    """Of equal lines that follow each other."""
    repeated: Mapping[str, int]
    """Lines that come more than once, most first."""

    @property
    def distinct_share(self) -> float:
        """Distinct over non-empty; 1 where there is none."""
        return self.distinct / self.non_empty if self.non_empty else 1.0


@dataclass(frozen=True, slots=True)
class Ngrams:
    """Runs of `length` words; none crosses from one text to the next."""

    length: int
    total: int
    distinct: int
    repeated: Mapping[str, int]
    """Those that come more than once, most first."""

    @property
    def distinct_share(self) -> float:
        """Distinct over all; 1 where there is none."""
        return self.distinct / self.total if self.total else 1.0


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something odd in a text."""

    text: int
    """Its number, from 0."""
    code: str
    """Which kind of oddity."""
    detail: str
    """What, in a few words."""


def words_of(text: str) -> list[str]:
    """Words as they stand: letters, with apostrophes inside; no numbers, no punctuation."""
    return _WORD.findall(text)


def headers_of(texts: Sequence[str]) -> Headers:
    """The headers of each text."""
    names: Counter[str] = Counter()
    values: dict[str, Counter[str]] = {}
    years: Counter[str] = Counter()
    having = 0
    for text in texts:
        found = dict(_headers(text))
        having += bool(found)
        names.update(found.keys())
        for name, value in found.items():
            values.setdefault(name, Counter())[value] += 1
            if name.lower() in _YEAR_NAMES:
                years.update(_YEAR.findall(value))
    top = {name: _most(values[name]) for name, _ in names.most_common(MOST_REPEATED)}
    return Headers(having, _most(names), top, dict(sorted(years.items())))


def _headers(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n")[:HEADER_LINES]:
        if match := _HEADER.match(line):
            # Not by the pattern: at each blank of a line it would look anew whether the rest is blank.
            yield match[1], match[2].rstrip(" \t")


def lines_of(texts: Sequence[str]) -> Lines:
    """Counts over the lines of all texts."""
    lines = [line.strip() for text in texts for line in text.split("\n")]
    counts = Counter(line for line in lines if line)
    longest = max((sum(1 for _ in run) for line, run in groupby(lines) if line), default=0)
    repeated = {line: count for line, count in _most(counts).items() if count > 1}
    return Lines(len(lines), counts.total(), len(counts), longest, repeated)


def ngrams_of(texts: Sequence[str], length: int) -> Ngrams:
    """Counts over the runs of `length` words, small letters and capitals alike."""
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = [word.lower() for word in words_of(text)]
        counts.update(zip(*(words[first:] for first in range(length)), strict=False))
    repeated = {" ".join(ngram): count for ngram, count in _most(counts).items() if count > 1}
    return Ngrams(length, counts.total(), len(counts), repeated)


def anomalies_of(texts: Sequence[str]) -> list[Anomaly]:
    """What is odd about each text, in their order."""
    return [Anomaly(number, code, detail) for number, text in enumerate(texts) for code, detail in _oddities(text)]


def _oddities(text: str) -> Iterator[tuple[str, str]]:
    if not text.strip():
        yield "empty", "nothing but white space"
        return
    if phrase := loop_at_end(text):
        yield "loop", f"ends in repetitions of {_shortened(phrase)}"
    elif not _END_OF_SENTENCE.search(text):
        yield "unfinished", f"ends within a sentence: {_shortened(text.rstrip().rsplit(chr(10), 1)[-1], end=True)}"
    if count := text.count("\ufffd"):
        yield "undecodable", f"{count} bytes that are no character"
    if found := _CONTROL.findall(text):
        yield "control", f"{len(found)} control characters, first {found[0]!r}"
    body = "\n".join(line for line in text.split("\n") if not _HEADER.match(line))
    if strays := [number for number in _YEAR.findall(body) if int(number) in YEARS]:
        yield "year", f"years in the text: {', '.join(sorted(set(strays))[:MOST_REPEATED])}"
    if longest := max((len(line) for line in text.split("\n") if len(line) > LONG_LINE), default=0):
        yield "long line", f"{longest} characters without a line break"
    if unmatched := _unmatched(text):
        yield "brackets", f"{unmatched} that have no partner"


def loop_at_end(text: str) -> str | None:
    """The shortest phrase with whose repetitions a text ends, at least `LOOP_REPEATS` of them; none: it does not."""
    tail = text.rstrip()
    for length in range(1, min(LONGEST_LOOP, len(tail) // LOOP_REPEATS) + 1):
        phrase = tail[-length:]
        repeats = max(LOOP_REPEATS, -(-SHORTEST_LOOP // length))
        if tail.endswith(phrase * repeats) and any(map(str.isalnum, phrase)):
            return phrase
    return None


def _unmatched(text: str) -> int:
    waiting: list[str] = []
    alone = 0
    for character in text:
        if character in _PAIRS.values():
            waiting.append(character)
        elif character in _PAIRS:
            if waiting and waiting[-1] == _PAIRS[character]:
                waiting.pop()
            else:
                alone += 1
    return alone + len(waiting)


def _most(counts: Mapping[str, int] | Counter[tuple[str, ...]]) -> dict[str, int]:
    """The most frequent; among equals in the order of the alphabet, so that a report does not change by itself."""
    ordered: Iterable[tuple[str, int]] = sorted(counts.items(), key=lambda item: (-item[1], item[0]))  # type: ignore[arg-type]
    return dict(list(ordered)[:MOST_REPEATED])


def _shortened(text: str, length: int = 60, *, end: bool = False) -> str:
    if len(text) <= length:
        return repr(text)
    return repr(f"...{text[-length:]}" if end else f"{text[:length]}...")
