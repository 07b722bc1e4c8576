"""What both sides of the fine-tuning benchmark share: options, rows on disk, and the figures that are compared. Needs no package."""

import argparse
import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROWS = "rows.jsonl"
NO_TARGET = -100


@dataclass(frozen=True)
class Counted:
    """What a batch holds, padding left out."""

    tokens: int
    targets: int


def add_sft(parser: argparse.ArgumentParser) -> None:
    """Options of a fine-tuning, and for how long to measure it."""
    parser.add_argument("folder", type=Path, help="holds model/ and the rows")
    parser.add_argument("--layout", choices=["padded", "packed"], default="padded")
    parser.add_argument("--rows", type=int, default=8, help="of a batch")
    parser.add_argument("--length", type=int, default=512, help="most tokens of a row")
    parser.add_argument("--lora", action="store_true", help="small matrices beside a frozen model, of rank 16")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--steps", type=int, default=5, help="measured steps")
    parser.add_argument("--warmup", type=int, default=1, help="steps before them")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows that both sides train on."""
    return [json.loads(line) for line in (folder / ROWS).read_text(encoding="utf-8").splitlines()]


def peak_mb() -> float:
    """Most memory that this process has held until now, in MB; before a model is loaded, what its imports took."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / (1e6 if sys.platform == "darwin" else 1e3)


def print_figures(
    batches: Sequence[Counted], ends_s: Sequence[float], options: argparse.Namespace, *, memory_mb: tuple[float, float]
) -> None:
    """One JSON object: real tokens and targets a second over the measured steps, peak memory, and that beyond the imports.

    Args:
        batches: Of each step.
        ends_s: When each step ended.
        options: Of `add_sft`.
        memory_mb: Peaks before the model is loaded and after the training.
    """
    first, last = options.warmup, options.warmup + options.steps
    measured = batches[first:last]
    seconds = ends_s[last - 1] - ends_s[first - 1]
    before, after = memory_mb
    figures = {
        "tokens_per_s": sum(batch.tokens for batch in measured) / seconds,
        "targets_per_s": sum(batch.targets for batch in measured) / seconds,
        "peak_mb": after,
        "beyond_imports_mb": after - before,
    }
    print(json.dumps(figures))
