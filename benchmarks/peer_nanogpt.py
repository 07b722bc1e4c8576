"""nanoGPT itself, as shipped: its `train.py` with a shape's flags, float32 and eager as its README runs it on a CPU.

`--nanogpt DIR` names a checkout. It trains on random ids, written into a folder of our own; without a `meta.pkl` beside
them it takes its 50304 symbols, so a smaller vocabulary is its character data, which `prepare.py` has made.
Prints {"tokens_per_s": ...}: the median over its own times of the steps after the warm-up.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from shapes import GPT2, Shape, add_shape, shape_of

CHARACTERS = "shakespeare_char"


def command(shape: Shape, dataset: str, results: Path, *, steps: int) -> list[str]:
    """Its command line: no evaluation but the first, no checkpoint, a report of each step."""
    flags = {
        "device": "cpu",
        "compile": False,
        "dropout": 0.0,
        # As GPT-2 and every other program of the table have them.
        "bias": True,
        "gradient_accumulation_steps": 1,
        "eval_iters": 1,
        "eval_interval": 1_000_000,
        "log_interval": 1,
        "always_save_checkpoint": False,
        "out_dir": f"{results}",
        "dataset": dataset,
        "block_size": shape.context,
        "batch_size": shape.rows,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_embd": shape.width,
        "max_iters": steps,
    }
    return [sys.executable, "train.py", *(f"--{name}={value}" for name, value in flags.items())]


def write_random_ids(folder: Path, shape: Shape) -> None:
    """`train.bin` and `val.bin` as its `prepare.py` writes them: two bytes an id."""
    ids = np.random.default_rng(0).integers(shape.vocabulary, size=64 * shape.context, dtype=np.uint16)
    for part in ("train", "val"):
        ids.tofile(folder / f"{part}.bin")


def main() -> None:
    """Train, and read the times that it prints."""
    parser = argparse.ArgumentParser(description="nanoGPT")
    parser.add_argument("--nanogpt", type=Path, required=True, metavar="DIR", help="a checkout of nanoGPT")
    add_shape(parser)
    options = parser.parse_args()
    shape = shape_of(options)
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        dataset = CHARACTERS
        if shape.vocabulary == GPT2.vocabulary:
            write_random_ids(folder, shape)
            dataset = f"{folder}"
        words = command(shape, dataset, folder / "out", steps=options.warmup + options.steps)
        reply = subprocess.run(words, cwd=options.nanogpt, capture_output=True, text=True, check=False)
    times_ms = [float(found) for found in re.findall(r"time ([0-9.]+)ms", reply.stdout)][options.warmup :]
    if reply.returncode or len(times_ms) < options.steps:
        sys.exit(f"nanoGPT ended with {reply.returncode} after {len(times_ms)} steps:\n{reply.stderr[-2000:]}")
    print(json.dumps({"tokens_per_s": shape.tokens / statistics.median(times_ms) * 1000}))


if __name__ == "__main__":
    main()
