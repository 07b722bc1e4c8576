"""Which stretches of drawn texts stand word for word in another, much longer text: read once, in bounded memory.

S characters of the drawn texts, L the length from which on an equal stretch counts as copied.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

MULTIPLIER = 0x9E3779B97F4A7C15
"""Odd, so that it can be divided by in arithmetic modulo 2 to the 64."""
INVERSE = pow(MULTIPLIER, -1, 1 << 64)
PIECE_CHARACTERS = 1 << 20
"""Of the long text, that are looked at together: 60 MB of hashes."""
TABLE_BITS = 20
"""Most windows of the long text are ruled out by a table of so many bits before anything is searched."""
LEAST_DISTINCT = 4
"""Different characters of a window that is looked for: rows of blanks or dashes stand everywhere, and are no copies."""
MOST_CHAINS = 100_000
"""Equal stretches that are remembered at once; those that have ended are put away above it."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A stretch of a drawn text that stands in the long one."""

    text: int
    """Number of the drawn text, from 0."""
    start: int
    """Characters of it before the stretch."""
    length: int
    source: int
    """Characters of the long text before its first occurrence."""

    @property
    def end(self) -> int:
        """Where it ends in the drawn text."""
        return self.start + self.length


@dataclass(slots=True)
class _Chain:
    """Windows that follow each other in both texts."""

    start: int
    source: int
    windows: int = 1


@dataclass(slots=True)
class Search:
    """Looks for the stretches of some texts in a long one that comes in pieces."""

    texts: Sequence[str]
    length: int
    """L, in characters."""
    _codes: NDArray[np.uint32] = field(init=False)
    _bounds: list[int] = field(init=False)
    _sorted: Hashes = field(init=False)
    _order: NDArray[np.int64] = field(init=False)
    _table: NDArray[np.bool_] = field(init=False)
    _tail: NDArray[np.uint32] = field(init=False)
    _read: int = field(init=False, default=0)
    _open: dict[int, _Chain] = field(init=False, default_factory=dict[int, _Chain])
    _found: dict[int, Copy] = field(init=False, default_factory=dict[int, Copy])

    def __post_init__(self) -> None:
        self._codes = codes_of("".join(self.texts))
        ends = np.cumsum([len(text) for text in self.texts], dtype=np.int64)
        self._bounds = [0, *map(int, ends)]
        hashes = window_hashes(self._codes, self.length)
        starts = np.arange(len(hashes))
        # A window that crosses from one text into the next is none of either.
        inside = np.searchsorted(ends, starts, side="right") == np.searchsorted(
            ends, starts + self.length - 1, side="right"
        )
        telling = [len(set(window.tolist())) >= LEAST_DISTINCT for window in self._windows(starts[inside])]
        starts = starts[inside][np.array(telling, dtype=np.bool_)]
        order = np.argsort(hashes[starts], kind="stable")
        self._order, self._sorted = starts[order], hashes[starts][order]
        self._table = np.zeros(1 << TABLE_BITS, dtype=np.bool_)
        self._table[_slots(self._sorted)] = True
        self._tail = np.empty(0, dtype=np.uint32)

    def _windows(self, starts: NDArray[np.int64]) -> Iterator[NDArray[np.uint32]]:
        return (self._codes[start : start + self.length] for start in starts.tolist())

    def read(self, piece: str) -> None:
        """Take in the next piece of the long text, however it is cut."""
        for first in range(0, len(piece), PIECE_CHARACTERS):
            self._look(codes_of(piece[first : first + PIECE_CHARACTERS]))

    def copies(self) -> list[Copy]:
        """What was found so far, by text and place: of stretches that overlap all, of those within another one none."""
        for chain in list(self._open.values()):
            self._close(chain)
        self._open.clear()
        longest: list[Copy] = []
        for copy in sorted(self._found.values(), key=lambda copy: (copy.text, copy.start, -copy.length)):
            if not longest or longest[-1].text != copy.text or copy.end > longest[-1].end:
                longest.append(copy)
        return longest

    def _look(self, fresh: NDArray[np.uint32]) -> None:
        codes = np.concatenate([self._tail, fresh])
        offset = self._read - len(self._tail)
        for place, window in self._matches(codes):
            self._extend(window, offset + place)
        self._read += len(fresh)
        self._tail = codes[max(0, len(codes) - self.length + 1) :]

    def _matches(self, codes: NDArray[np.uint32]) -> Iterator[tuple[int, int]]:
        """Places of the piece and of the drawn texts with equal windows, in the order of the piece."""
        hashes = window_hashes(codes, self.length)
        places = np.flatnonzero(self._table[_slots(hashes)])
        low = np.searchsorted(self._sorted, hashes[places], side="left")
        high = np.searchsorted(self._sorted, hashes[places], side="right")
        for place, first, last in zip(places.tolist(), low.tolist(), high.tolist(), strict=True):
            for at in range(first, last):
                window = int(self._order[at])
                # Equal hashes of different windows: one in 2 to the 64 by chance.
                if np.array_equal(codes[place : place + self.length], self._codes[window : window + self.length]):
                    yield place, window

    def _extend(self, window: int, source: int) -> None:
        """Windows at equal distance belong to one stretch as long as none is missing."""
        chain = self._open.get(window - source)
        if chain is not None and chain.source + chain.windows == source:
            chain.windows += 1
            return
        if chain is not None:
            self._close(chain)
        if len(self._open) >= MOST_CHAINS:
            for key in [key for key, old in self._open.items() if old.source + old.windows < source]:
                self._close(self._open.pop(key))
        self._open[window - source] = _Chain(window, source)

    def _close(self, chain: _Chain) -> None:
        """Keep the longest stretch from this place of the drawn texts, and of equal ones the first."""
        number = int(np.searchsorted(self._bounds, chain.start, side="right")) - 1
        length = min(chain.windows + self.length - 1, self._bounds[number + 1] - chain.start)
        known = self._found.get(chain.start)
        if known is None or length > known.length:
            self._found[chain.start] = Copy(number, chain.start - self._bounds[number], length, chain.source)


def copied_share(texts: Sequence[str], copies: Iterable[Copy]) -> float:
    """Share of the characters that stand in a copied stretch; NaN without characters."""
    covered = 0
    reached: dict[int, int] = {}
    for copy in copies:
        begin = max(copy.start, reached.get(copy.text, 0))
        covered += max(0, copy.end - begin)
        reached[copy.text] = max(copy.end, reached.get(copy.text, 0))
    total = sum(map(len, texts))
    return covered / total if total else float("nan")


def codes_of(text: str) -> NDArray[np.uint32]:
    """The code point of each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint32, copy=False)


def window_hashes(codes: NDArray[np.uint32], length: int) -> Hashes:
    """A hash of each window of so many characters, (n - length + 1,); empty where there is none.

    Of the sums of code point times a power of the multiplier, differences are sums over windows, and dividing by the power
    at its beginning makes equal windows equal wherever they stand.
    """
    if len(codes) < length:
        return np.empty(0, dtype=np.uint64)
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * _powers(MULTIPLIER, len(codes)), out=sums[1:])
    return (sums[length:] - sums[:-length]) * _powers(INVERSE, len(codes) - length + 1)


def _powers(base: int, count: int) -> Hashes:
    """Base to the 0, 1, ... modulo 2 to the 64."""
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers)


def _slots(hashes: Hashes) -> Hashes:
    return hashes >> np.uint64(64 - TABLE_BITS)
