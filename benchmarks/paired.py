"""Runs two programs in turn and compares their figures: the machine drifts, the ratio of neighbours does not."""

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """Medians of A and B, and the median of the ratios A/B of neighbours."""

    a: float
    b: float
    ratio: float
    lowest: float
    highest: float


def compare(a: Sequence[str], b: Sequence[str], *, figure: str, rounds: int = 3) -> Pair:
    """Run A, B, A, B, ...; each prints one JSON object as its last line, which holds `figure`."""
    figures_a, figures_b = [], []
    for _ in range(rounds):
        figures_a.append(run(a)[figure])
        figures_b.append(run(b)[figure])
    ratios = [x / y for x, y in zip(figures_a, figures_b, strict=True)]
    return Pair(
        statistics.median(figures_a), statistics.median(figures_b), statistics.median(ratios), min(ratios), max(ratios)
    )


def run(arguments: Sequence[str]) -> Mapping[str, float]:
    """Run a Python program and read the object it printed last."""
    reply = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if reply.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{reply.stderr}")
    return json.loads(reply.stdout.splitlines()[-1])
