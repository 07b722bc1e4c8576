"""Training speed, whole processes in turn: ours with all monitoring on, nanoGPT, a plain float32 loop, and the peers that are installed.

The peers run as they are: our allocator settings are ours alone. litgpt may live in an environment of its own:
`--litgpt PYTHON`, or MLP_BENCH_PYTHON_LITGPT, names its interpreter. nanoGPT is a checkout, `--nanogpt DIR` or
MLP_BENCH_NANOGPT; where there is none, the plain float32 loop stands in for it.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paired import Pair, Program, Turns, in_turn
from shapes import SHAPES, as_options
from tables import Row, Table, command_line, progress, publish

HERE = Path(__file__).parent
OURS, COMPILED, PLAIN, NANOGPT = "ours", "ours, compiled", "plain float32 loop", "nanoGPT as shipped"


@dataclass(frozen=True)
class Effort:
    """How long a shape is measured."""

    rounds: int
    steps: int
    warmup: int


EFFORT = {"tiny": Effort(3, 300, 50), "baby": Effort(3, 8, 2), "gpt2": Effort(2, 4, 1)}
QUICK = {"tiny": Effort(1, 150, 30)}


def has(python: str, package: str) -> bool:
    """Whether an interpreter finds a package."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0


PEERS = {
    "transformers": ("transformers", "peer_transformers.py"),
    "transformers, eager attention": ("transformers", "peer_transformers.py", "--attention", "eager"),
    "transformers, compiled": ("transformers", "peer_transformers.py", "--compile"),
    "litgpt": ("litgpt", "peer_litgpt.py"),
    "litgpt, compiled": ("litgpt", "peer_litgpt.py", "--compile"),
}
"""Name of a setting -> the package it needs, and its program."""
BEST_PEERS = {
    "tiny": ("transformers, eager attention", "litgpt, compiled"),
    "baby": ("transformers, eager attention", "litgpt, compiled"),
    "gpt2": ("transformers", "litgpt, compiled"),
}
"""The settings of each peer that were fastest when all were tried (`--all-peers`; docs/LOG.md)."""


def programs_for(name: str, effort: Effort, options: argparse.Namespace) -> list[Program]:
    """Who competes in a shape: ours, nanoGPT, and each peer that is installed in its best setting."""
    words = as_options(SHAPES[name], steps=effort.steps, warmup=effort.warmup)

    def program(title: str, script: str, *more: str, python: str = sys.executable) -> Program:
        return Program(title, [str(HERE / script), *words, *more], python)

    found = [program(OURS, "our_training.py"), program(PLAIN, "plain_loop.py")]
    if options.nanogpt is not None:
        found.append(program(NANOGPT, "peer_nanogpt.py", "--nanogpt", str(options.nanogpt)))
    if not options.quick:
        found.append(program(COMPILED, "our_training.py", "--compile"))
    pythons = {"transformers": sys.executable, "litgpt": options.litgpt}
    for peer in PEERS if options.all_peers else BEST_PEERS[name]:
        package, script, *more = PEERS[peer]
        if has(pythons[package], package):
            found.append(program(peer, script, *more, python=pythons[package]))
    return found


def against_best_peer(turns: Turns, ours: str) -> tuple[str, Pair] | None:
    """The peer with the highest median and what we are against it; none where no peer is installed."""
    peers = [name for name in turns.figures if name not in {OURS, COMPILED, PLAIN, NANOGPT}]
    if not peers:
        return None
    best = max(peers, key=lambda name: statistics.median(turns.of(name, "tokens_per_s")))
    return best, Pair.of(turns.of(ours, "tokens_per_s"), turns.of(best, "tokens_per_s"))


def comparisons(found: Mapping[str, Turns]) -> Iterator[Row]:
    """Both of ours against nanoGPT, the plain loop and the best peer, in each shape; judged by the first of the first two."""
    for shape, turns in found.items():
        for ours in (OURS, COMPILED):
            if ours not in turns.figures:
                continue
            floors = [name for name in (NANOGPT, PLAIN) if name in turns.figures]
            for name in floors:
                pair = Pair.of(turns.of(ours, "tokens_per_s"), turns.of(name, "tokens_per_s"))
                judged = name == floors[0]
                yield _row(f"{shape}: {ours}", name, pair, f"train {shape} against nanoGPT" if judged else "")
            if best := against_best_peer(turns, ours):
                yield _row(f"{shape}: {ours}", best[0], best[1], "train against the best peer")


def _row(what: str, against: str, pair: Pair, target: str) -> Row:
    return Row([what, against, pair.ratio, pair.lowest, pair.highest], target, pair.ratio if target else None)


def speeds(found: Mapping[str, Turns], names: Sequence[str]) -> Iterator[Row]:
    """One line a program, one column a shape."""
    for name in names:
        medians = [
            statistics.median(turns.of(name, "tokens_per_s")) if name in turns.figures else None
            for turns in found.values()
        ]
        yield Row([name, *medians])


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Speeds, then ratios."""
    found: dict[str, Turns] = {}
    names: dict[str, None] = {}
    for name, effort in (QUICK if options.quick else EFFORT).items():
        progress(f"training {name}")
        programs = programs_for(name, effort, options)
        found[name] = in_turn(programs, rounds=effort.rounds)
        names |= dict.fromkeys(program.name for program in programs)
    problems = [f"{shape}: {problem}" for shape, turns in found.items() for problem in turns.problems]
    absent = [peer for peer in ("transformers", "litgpt", "nanoGPT") if not any(peer in name for name in names)]
    compiling = [
        f"{shape} {statistics.median(turns.of(COMPILED, 'first_step_s')):.0f} s"
        for shape, turns in found.items()
        if COMPILED in turns.figures
    ]
    notes = [
        "Medians of whole processes in turn; GPT-2's layout, AdamW, clipped gradients; ours with all monitoring on."
    ]
    notes += [f"The first step of ours, compiled: {', '.join(compiling)}."] if compiling else []
    notes += [f"Not installed: {', '.join(absent)}."] if absent else []
    rows = list(speeds(found, list(names)))
    yield Table("train", "Training, tokens/s", ["program", *found], rows, notes, problems)
    columns = ["ours", "against", "ratio", "lowest", "highest"]
    yield Table("train_ratios", "Training against others", columns, list(comparisons(found)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="training speed against a plain loop and the peers that are installed")
    parser.add_argument(
        "--litgpt",
        metavar="PYTHON",
        default=os.environ.get("MLP_BENCH_PYTHON_LITGPT", sys.executable),
        help="the interpreter that has litgpt",
    )
    parser.add_argument("--all-peers", action="store_true", help="each peer in all of its settings")
    parser.add_argument(
        "--nanogpt",
        type=Path,
        metavar="DIR",
        default=Path(checkout) if (checkout := os.environ.get("MLP_BENCH_NANOGPT")) else None,
        help="a checkout of nanoGPT, its character data prepared",
    )
    publish(tables, command_line(None, parser))
