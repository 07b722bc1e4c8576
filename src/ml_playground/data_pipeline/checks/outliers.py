"""Which of many numbers stand far outside of the rest, found in one pass with memory that does not grow."""

import math
from collections import Counter
from typing import NamedTuple

PER_OCTAVE = 16
"""Bins for each doubling: a bound is off by 4 % at most."""
LEAST_COUNT = 30
"""Fewer numbers say nothing about what is usual."""
FENCES = 3.0
"""Interquartile ranges beyond the quartiles (Tukey's outer fence), on a logarithmic scale."""
LEAST_FACTOR = 8.0
"""Times the median that an outlier has at least: where all rows are nearly equal, a fence alone would be too narrow."""


def bin_of(value: float) -> int:
    """The bin of a number above zero."""
    return math.floor(math.log2(value) * PER_OCTAVE)


def start_of(number: int) -> float:
    """The smallest number of a bin."""
    return 2 ** (number / PER_OCTAVE)


class Fences(NamedTuple):
    """What lies outside is an outlier."""

    lowest: int
    """The first bin inside."""
    highest: int
    """The last bin inside."""

    def below(self, value: float) -> bool:
        """Whether a number is too small."""
        return bin_of(value) < self.lowest

    def above(self, value: float) -> bool:
        """Whether a number is too large."""
        return bin_of(value) > self.highest


class LogHistogram:
    """Counts of positive numbers in bins of equal ratio."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()

    def add(self, value: float) -> None:
        """Count a number above zero."""
        self._bins[bin_of(value)] += 1

    @property
    def count(self) -> int:
        """All numbers."""
        return self._bins.total()

    def median(self) -> float:
        """The start of the bin that holds the median; 0 where there are no numbers."""
        return start_of(self._quantile(0.5)) if self._bins else 0.0

    def fences(self) -> Fences | None:
        """What is usual; None where there are too few numbers to tell."""
        if self.count < LEAST_COUNT:
            return None
        low, middle, high = (self._quantile(share) for share in (0.25, 0.5, 0.75))
        width, factor = FENCES * (high - low), PER_OCTAVE * math.log2(LEAST_FACTOR)
        return Fences(math.floor(min(low - width, middle - factor)), math.ceil(max(high + width, middle + factor)))

    def outside(self, fences: Fences) -> tuple[int, int]:
        """How many numbers lie below, and how many above."""
        below = sum(count for number, count in self._bins.items() if number < fences.lowest)
        return below, sum(count for number, count in self._bins.items() if number > fences.highest)

    def _quantile(self, share: float) -> int:
        below = number = 0
        for number in sorted(self._bins):
            below += self._bins[number]
            if below >= share * self.count:
                break
        return number
