"""Which part of a mixture is due next: the one that is furthest behind its share. Pure; whole numbers, so equal everywhere."""

from collections.abc import Mapping
from fractions import Fraction
from math import lcm


class Shares:
    """How much each part has given, measured in its own share.

    Whatever is given, one part is never ahead of another by more than its own longest document: that is the law which makes
    every beginning of a mixture a mixture.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        exact = {name: Fraction(str(weight)) for name, weight in weights.items()}
        # A character of a part counts for 1 / weight, brought to whole numbers.
        scale = lcm(*(weight.numerator for weight in exact.values()))
        self._cost = {name: scale // weight.numerator * weight.denominator for name, weight in exact.items()}
        self._given = dict.fromkeys(sorted(weights), 0)

    def due(self) -> str:
        """The part that comes next; of equal ones the first by name."""
        return min(self._given, key=self._given.__getitem__)

    def give(self, name: str, characters: int) -> None:
        """Count what a part gave."""
        self._given[name] += characters * self._cost[name]
