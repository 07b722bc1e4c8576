"""Words to numbers, exactly and without a Python object for each: an open-addressing hash table in numpy arrays."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ml_playground.tokenization.ascii_words import Positions, Words

Keys = NDArray[np.uint64]

# Two 64-bit numbers hold a word; longer ones, 1 in 100 of English and Python, go through a dict.
LONGEST_BYTES = 16
EMPTY = -1
FIRST_SLOTS = 1 << 12

# Odd constants of splitmix64 and xxHash; products of 64 bits wrap around.
MIX = tuple(np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xBF58476D1CE4E5B9))
MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], dtype=np.uint64)


def keys_of(words: Words) -> tuple[Keys, Keys]:
    """Bytes 0 to 7 and 8 to 15 of each word as numbers, what lies behind its end as zeros: (words,) each."""
    padded = words.raw + bytes(24 - len(words.raw) % 8)
    aligned = np.frombuffer(padded, dtype="<u8")
    place = words.starts >> 3
    shift = ((words.starts & 7) << 3).astype(np.uint64)
    one, two, three = aligned[place], aligned[place + 1], aligned[place + 2]
    # A shift by 64 is undefined; two shifts, the first by one, never are.
    back = np.uint64(63) - shift
    low = (one >> shift) | ((two << np.uint64(1)) << back)
    high = (two >> shift) | ((three << np.uint64(1)) << back)
    low &= MASKS[np.minimum(words.sizes, 8)]
    high &= MASKS[np.clip(words.sizes - 8, 0, 8)]
    return low, high


class WordTable:
    """Numbers words in the order in which they come; equal bytes, equal number."""

    def __init__(self) -> None:
        self.words: list[bytes] = []
        """All words, by their number."""
        self._others: dict[bytes, int] = {}
        self._slots = np.full(FIRST_SLOTS, EMPTY, dtype=np.int32)
        # By number; the last entry stays zero, which no short word is: EMPTY finds it.
        self._low = np.zeros(FIRST_SLOTS, dtype=np.uint64)
        self._high = np.zeros(FIRST_SLOTS, dtype=np.uint64)

    def numbers(self, words: Words) -> Positions:
        """The number of each word, (words,), EMPTY for foreign stretches; words that were not there are added."""
        self._reserve(len(words.starts))
        numbers = np.full(len(words.starts), EMPTY, dtype=np.int64)
        if not len(numbers):
            return numbers
        low, high = keys_of(words)
        long = _does_not_fit(words)
        foreign = np.zeros(len(numbers), dtype=np.bool_)
        foreign[words.foreign] = True
        short = np.flatnonzero(~(long | foreign))
        numbers[short] = self._find(low[short], high[short], words, short)
        others = np.flatnonzero(long & ~foreign)
        numbers[others] = self.numbers_of(words.pick(others))
        return numbers

    def numbers_of(self, words: Iterable[bytes]) -> list[int]:
        """As `numbers`, for words too long for the arrays; a short one gets a second number here."""
        known = self._others
        found: list[int] = []
        for word in words:
            number = known.get(word)
            if number is None:
                number = known[word] = len(self.words)
                self.words.append(word)
            found.append(number)
        return found

    def _find(self, low: Keys, high: Keys, words: Words, which: Positions) -> Positions:
        """Probe slot after slot for those not yet found; where a slot is empty the word is new and takes it."""
        slots = self._slots
        slot = _hashes(low, high, len(slots))
        numbers = slots[slot].astype(np.int64)
        pending = np.flatnonzero((self._low[numbers] != low) | (self._high[numbers] != high))
        while len(pending):
            unseen = numbers[pending] == EMPTY
            new = pending[unseen]
            if len(new):
                # All write their claim; of equal words and of words that collide, one stays.
                slots[slot[new]] = np.arange(len(new), dtype=np.int32)
                new = new[slots[slot[new]] == np.arange(len(new))]
                given = np.arange(len(self.words), len(self.words) + len(new))
                slots[slot[new]] = given
                self._reserve_keys(len(given))
                self._low[given], self._high[given] = low[new], high[new]
                self.words += words.pick(which[new])
            taken = pending[~unseen]
            slot[taken] = (slot[taken] + 1) & (len(slots) - 1)
            numbers[pending] = slots[slot[pending]]
            found = numbers[pending]
            pending = pending[(self._low[found] != low[pending]) | (self._high[found] != high[pending])]
        return numbers

    def _reserve(self, more: int) -> None:
        """Make room for so many new words, the table at most half full."""
        size = len(self._slots)
        while size < 2 * (len(self.words) + more):
            size *= 2
        if size > len(self._slots):
            self._slots = np.full(size, EMPTY, dtype=np.int32)
            numbers = np.flatnonzero(self._low[: len(self.words)])
            slot = _hashes(self._low[numbers], self._high[numbers], size)
            while len(numbers):
                free = self._slots[slot] == EMPTY
                self._slots[slot[free]] = numbers[free]
                homeless = self._slots[slot] != numbers
                numbers, slot = numbers[homeless], (slot[homeless] + 1) & (size - 1)

    def _reserve_keys(self, more: int) -> None:
        needed = len(self.words) + more + 1
        if needed > len(self._low):
            size = max(needed, 2 * len(self._low))
            self._low, self._high = (
                np.concatenate([keys, np.zeros(size - len(keys), dtype=np.uint64)]) for keys in (self._low, self._high)
            )


def _does_not_fit(words: Words) -> NDArray[np.bool_]:
    """Words that the keys cannot tell apart: long ones, and those with NUL, which looks like the end of a word."""
    long = words.sizes > LONGEST_BYTES
    if b"\0" in words.raw:
        nuls = np.flatnonzero(np.frombuffer(words.raw, dtype=np.uint8) == 0)
        long[np.searchsorted(words.starts, nuls, side="right") - 1] = True
    return long


def _hashes(low: Keys, high: Keys, slots: int) -> Positions:
    """Where to look for a word first, in a table of so many slots (a power of two)."""
    mixed = (low * MIX[0]) ^ (high * MIX[1])
    mixed ^= mixed >> np.uint64(32)
    mixed *= MIX[2]
    return (mixed >> np.uint64(65 - slots.bit_length())).astype(np.int64)
