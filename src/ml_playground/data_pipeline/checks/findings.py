"""What a check finds in one passage, and what comes of it over all files: counts and the first examples of each code."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ml_playground.core.humanise import printable

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

EXCERPT_BYTES = 32
"""Shown before and after what was found."""
MOST_SHOWN = 140
"""Characters of an excerpt: control characters take four each."""


class Check(NamedTuple):
    """A row of the table."""

    severity: Severity
    """`error`: it cannot be trained on, or teaches what nobody wants; `warning`: it probably harms; `info`: good to know."""
    unit: str
    """What is counted, in the singular."""
    title: str
    effect: str
    """One sentence: what it does to training."""
    remedy: str
    """One sentence: what to do."""


class Fault(NamedTuple):
    """One thing that a check found in a passage (a row, a stretch of text)."""

    code: str
    """A key of `table.CHECKS`."""
    note: str = ""
    """What exactly: the column, what it would be mended to, how long it is."""
    start: int = 0
    """Bytes of the passage before it."""
    end: int = 0
    """Bytes of the passage up to its end; where it equals `start`, the whole passage is meant."""


class Place(NamedTuple):
    """Where something stands."""

    file: str
    """A file, or the id of a document."""
    line: int
    """From 1."""
    offset: int
    """Bytes of the file before it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One occurrence, as a person finds it again."""

    place: Place
    excerpt: str
    """A short stretch around it, on one line, without what steers a terminal."""
    note: str


def excerpt_of(passage: bytes, start: int = 0, end: int = 0) -> str:
    """What stands at a place of a passage, with a little around it; cut ends are marked."""
    first, last = max(0, start - EXCERPT_BYTES), min(len(passage), max(end, start) + EXCERPT_BYTES)
    last = min(last, first + 4 * EXCERPT_BYTES)
    # A character that the cut goes through is left out; what is no UTF-8 by itself is shown as such.
    while first < start and passage[first] & 0xC0 == 0x80:  # noqa: PLR2004 - a tail byte of a character
        first += 1
    while max(end, start) < last < len(passage) and passage[last] & 0xC0 == 0x80:  # noqa: PLR2004
        last -= 1
    shown = printable(escaped(passage[first:last].decode("utf-8", "replace")))
    cut = len(shown) > MOST_SHOWN
    return f"{'…' if first else ''}{shown[:MOST_SHOWN]}{'…' if cut or last < len(passage) else ''}"


def escaped(text: str) -> str:
    """Control characters and line ends as Python writes them, so that they can be seen."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


class Tally:
    """Counts of codes, and the first examples of each."""

    def __init__(self, most_examples: int) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Example]] = {}
        self._most_examples = most_examples

    def add(self, fault: Fault, place: Place, passage: bytes) -> None:
        """Count a fault, and keep it where it is among the first."""
        self.counts[fault.code] += 1
        kept = self.examples.setdefault(fault.code, [])
        if len(kept) < self._most_examples:
            kept.append(Example(place, excerpt_of(passage, fault.start, fault.end), fault.note))

    def put(self, code: str, count: int, examples: list[Example]) -> None:
        """Set what was found by looking at all rows together; nothing where nothing was."""
        if count:
            self.counts[code] = count
            self.examples[code] = examples[: self._most_examples]
