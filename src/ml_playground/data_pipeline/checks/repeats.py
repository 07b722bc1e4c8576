"""Which of the rows that share a fingerprint are at fault: later copies, contradictions, what is trained and validated on. Pure."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml_playground.data_pipeline.checks.fingerprints import Groups, Mask

LEFT_OUT, TRAINED, HELD_OUT = 0, 1, 2
"""Sides of a row: in no split; trained on; validated or tested on."""


class Repeat(NamedTuple):
    """A row at fault, and the row it repeats or contradicts."""

    row: int
    offset: int
    first_row: int


@dataclass(frozen=True, slots=True)
class Picked:
    """Rows at fault."""

    count: int
    weight: int
    """Sum of their `other`: bytes, where that is what it holds."""
    repeats: tuple[Repeat, ...]
    """The first of them by row."""


def exact(groups: Groups) -> Mask:
    """Rows that are equal to an earlier one to the last byte."""
    return groups.records["row"] != groups.first_alike


def near(groups: Groups) -> Mask:
    """Rows that are equal to an earlier one but for white space; the first of each spelling."""
    return (groups.records["row"] == groups.first_alike) & (groups.first_alike != groups.first)


def again(groups: Groups) -> Mask:
    """Rows whose key an earlier row has, without those that are left out."""
    return (groups.records["row"] != groups.first) & (groups.side != LEFT_OUT)


def contradicting(groups: Groups) -> Mask:
    """Rows of keys that come with different `other`s."""
    return groups.many_others


def leaking(groups: Groups) -> tuple[Mask, Mask]:
    """Rows of keys that stand on both sides: those that are held out, and those that are trained on."""
    both = groups.sides == TRAINED | HELD_OUT
    return both & (groups.side == HELD_OUT), both & (groups.side == TRAINED)


def picked(groups: Groups, mask: Mask, most: int) -> Picked:
    """The rows of a mask, each beside the first other row of its key."""
    records = groups.records
    chosen = np.flatnonzero(mask)
    rows = records["row"][chosen]
    shown = chosen[np.argsort(rows, kind="stable")[:most]]
    beside = np.where(records["row"][shown] == groups.first[shown], groups.second[shown], groups.first[shown])
    places = zip(records["row"][shown].tolist(), records["offset"][shown].tolist(), beside.tolist(), strict=True)
    weight = int(records["other"][chosen].sum(dtype=np.uint64))
    return Picked(len(chosen), weight, tuple(Repeat(*place) for place in places))


def together(parts: Iterable[Picked], most: int) -> Picked:
    """What was picked of each chunk, as one."""
    count, weight = 0, 0
    repeats: list[Repeat] = []
    for part in parts:
        count, weight = count + part.count, weight + part.weight
        repeats = sorted([*repeats, *part.repeats])[:most]
    return Picked(count, weight, tuple(repeats))


class Parts:
    """On which side each row is, by where each part of the rows begins."""

    def __init__(self) -> None:
        self._starts = array("Q")
        self._sides = array("B")

    def begin(self, row: int, side: int) -> None:
        """From this row on; rows come in order."""
        if not self._sides or self._sides[-1] != side:
            self._starts.append(row)
            self._sides.append(side)

    @property
    def both(self) -> bool:
        """Whether there is something to compare."""
        return TRAINED in self._sides and HELD_OUT in self._sides

    def sides(self, rows: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """The side of each row; where nobody said anything, all are trained on."""
        if not self._sides:
            return np.full(len(rows), TRAINED, np.uint8)
        place = np.searchsorted(np.array(self._starts, np.uint64), rows.astype(np.uint64), side="right") - 1
        return np.array(self._sides, np.uint8)[place]
