"""Runs programs in turn and compares their figures: the machine drifts, the ratio of neighbours does not."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tables import progress


@dataclass(frozen=True)
class Program:
    """A Python program that prints one JSON object of figures as its last line."""

    name: str
    arguments: Sequence[str]
    python: str = sys.executable
    """Its interpreter: a peer may live in an environment of its own."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to ours."""

    def run(self) -> Mapping[str, float]:
        """Run it to its end and read what it printed last."""
        reply = subprocess.run(
            [self.python, *self.arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | dict(self.environment),
        )
        if reply.returncode or not reply.stdout.strip():
            raise ProgramError(f"{self.name} ended with {reply.returncode}:\n{reply.stderr[-2000:]}")
        return json.loads(reply.stdout.splitlines()[-1])


class ProgramError(Exception):
    """A program ended badly, or said nothing."""


@dataclass(frozen=True)
class Pair:
    """Medians of A and B, and the median of the ratios A/B of neighbours."""

    a: float
    b: float
    ratio: float
    lowest: float
    highest: float

    @staticmethod
    def of(figures_a: Sequence[float], figures_b: Sequence[float]) -> "Pair":
        """From figures that were taken in turn."""
        ratios = [x / y for x, y in zip(figures_a, figures_b, strict=True)]
        medians = statistics.median(figures_a), statistics.median(figures_b)
        return Pair(*medians, statistics.median(ratios), min(ratios), max(ratios))

    @property
    def spread(self) -> str:
        """The ratio, and how far the pairs lie apart."""
        return f"{self.ratio:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


@dataclass(frozen=True)
class Turns:
    """What programs printed, round after round."""

    figures: Mapping[str, Sequence[Mapping[str, float]]]
    """Name of a program -> what it printed in each round; only those that never failed."""
    problems: Sequence[str]
    """What the others died of."""

    def of(self, name: str, figure: str) -> list[float]:
        """One figure of one program in each round."""
        return [found[figure] for found in self.figures[name]]


def in_turn(programs: Sequence[Program], *, rounds: int) -> Turns:
    """Run A, B, C, A, B, C, ...; one that fails is left out from then on, the others go on."""
    figures: dict[str, list[Mapping[str, float]]] = {program.name: [] for program in programs}
    problems: list[str] = []
    for number in range(rounds):
        for program in programs:
            if program.name not in figures:
                continue
            progress(f"round {number + 1} of {rounds}: {program.name}")
            try:
                figures[program.name].append(program.run())
            except ProgramError as error:
                problems.append(str(error))
                del figures[program.name]
    return Turns(figures, problems)


def compare(a: Sequence[str], b: Sequence[str], *, figure: str, rounds: int = 3) -> Pair:
    """Run A, B, A, B, ...; each prints one JSON object as its last line, which holds `figure`.

    Raises:
        ProgramError: One of them failed.
    """
    turns = in_turn([Program("a", a), Program("b", b)], rounds=rounds)
    if turns.problems:
        raise ProgramError("\n".join(turns.problems))
    return Pair.of(turns.of("a", figure), turns.of("b", figure))
