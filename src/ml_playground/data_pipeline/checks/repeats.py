"""Which of the rows that share a fingerprint are at fault: later copies, contradictions, what is trained and validated on. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml_playground.data_pipeline.checks.fingerprints import Groups

Mask = NDArray[np.bool_]
HeldOut = Callable[[NDArray[np.uint64]], Mask]
"""Of row numbers: which belong to validation or test."""


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
    return ~groups.new_other


def near(groups: Groups) -> Mask:
    """Rows that are equal to an earlier one but for white space; the first of each spelling."""
    return groups.new_other & again(groups)


def again(groups: Groups) -> Mask:
    """Rows whose key an earlier row has."""
    return groups.records["row"] != groups.first_rows()


def contradicting(groups: Groups) -> Mask:
    """Rows of keys that come with different `other`s."""
    kinds = np.add.reduceat(groups.new_other.astype(np.int64), groups.starts)
    return (kinds > 1)[groups.group]


def leaking(groups: Groups, held_out: HeldOut) -> tuple[Mask, Mask]:
    """Rows of keys that stand on both sides: those that are held out, and those that are trained on."""
    held = held_out(groups.records["row"])
    both = np.logical_or.reduceat(held, groups.starts) & ~np.logical_and.reduceat(held, groups.starts)
    return held & both[groups.group], ~held & both[groups.group]


def picked(groups: Groups, mask: Mask, most: int) -> Picked:
    """The rows of a mask, each beside the first other row of its group."""
    records = groups.records
    chosen = np.flatnonzero(mask)
    first = chosen[np.argsort(records["row"][chosen], kind="stable")][:most]
    ends = np.append(groups.starts[1:], len(records))
    repeats: list[Repeat] = []
    for index in first.tolist():
        group = groups.group[index]
        members = np.arange(int(groups.starts[group]), int(ends[group]))
        members = members[members != index]
        other = members[np.argmin(records["row"][members])]
        at, beside = records[index], records[other]
        repeats.append(Repeat(int(at["row"]), int(at["offset"]), int(beside["row"])))
    return Picked(len(chosen), int(records["other"][chosen].sum(dtype=np.uint64)), tuple(repeats))


def together(parts: Iterable[Picked], most: int) -> Picked:
    """What was picked in each partition, as one."""
    count, weight = 0, 0
    repeats: list[Repeat] = []
    for part in parts:
        count, weight = count + part.count, weight + part.weight
        repeats = sorted([*repeats, *part.repeats])[:most]
    return Picked(count, weight, tuple(repeats))


class Parts:
    """Which rows are held out, by where each part of the rows begins."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._held_out: list[bool] = []

    def begin(self, row: int, *, held_out: bool) -> None:
        """From this row on; rows come in order."""
        if not self._held_out or self._held_out[-1] != held_out:
            self._starts.append(row)
            self._held_out.append(held_out)

    @property
    def both(self) -> bool:
        """Whether there is something to compare."""
        return len(set(self._held_out)) > 1

    def held_out(self, rows: NDArray[np.uint64]) -> Mask:
        """Of row numbers, which are held out."""
        place = np.searchsorted(np.array(self._starts, dtype=np.uint64), rows, side="right") - 1
        return np.array(self._held_out, dtype=bool)[place]
