"""How long a recipe takes to its loss: wall time from process start to the end, and the loss over the whole validation part.

Each recipe is `mlp train shakespeare --set use=recipe/NAME`, a process of its own with all monitoring on, its data prepared
and the machine's rates measured before, as every run but the first finds them. Its loss is what `mlp evaluate` then says of
the whole validation part, outside the time. With `--nanogpt DIR`, a checkout of nanoGPT whose data are prepared, nanoGPT runs
too, as shipped, with the flags of its README for a CPU; it prints an estimate of its validation loss only, and leaves
its checkpoint in its own folder.

    python benchmarks/time_to_loss.py --nanogpt ../nanoGPT
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from budget_texts import SHAKESPEARE
from tables import Row, Table, command_line, progress, publish

from ml_playground.configuration.loading import SHIPPED

MLP = [sys.executable, "-m", "ml_playground.cli"]
RECIPES = {"speed": 3, "modern": 3, "nanogpt": 1, "speed_long": 1}
"""How many seeds each of our recipes gets, unless it is said: the last takes over a minute."""
TINY = SHIPPED / "shakespeare" / "test_config.toml"
NANOGPT_LOSS = 1.898
"""Nats per character over the whole validation part, of nanoGPT's CPU recipe (docs/LOG.md)."""
NANOGPT_FLAGS = (
    "--device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 "
    "--n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)
"""Of nanoGPT's README, "I only have a macbook"."""


def ended(command: list[str], *, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A process that must end well."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done


def sets_of(recipe: str, text: Path | None, seed: int) -> list[str]:
    """`--set` arguments; without a `text` the experiment fetches its own."""
    source = [] if text is None else [f'prepare.source={{kind="text_file", path="{text.absolute()}"}}']
    return [word for assignment in [*source, f"use=recipe/{recipe}", f"seed={seed}"] for word in ("--set", assignment)]


def run_of(recipe: str, text: Path | None, seed: int) -> tuple[float, float]:
    """Wall seconds of `mlp train`, and its loss over the whole validation part."""
    started_s = time.monotonic()
    trained = ended([*MLP, "train", "shakespeare", *sets_of(recipe, text, seed), "--fresh", "--json"])
    seconds = time.monotonic() - started_s
    run = json.loads(trained.stdout)["run"]
    evaluated = ended([*MLP, "evaluate", run, "--split", "val", "--json"])
    return seconds, json.loads(evaluated.stdout)["model"]["loss"]


def nanogpt(folder: Path) -> tuple[float, float]:
    """Wall seconds of nanoGPT's own training, and its last estimate of the validation loss, from 20 batches."""
    command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *NANOGPT_FLAGS.split()]
    started_s = time.monotonic()
    printed = ended(command, folder=folder).stdout
    seconds = time.monotonic() - started_s
    return seconds, float(re.findall(r"val loss ([0-9.]+)", printed)[-1])


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Every recipe with every seed, in turn."""
    names = options.recipe or (["speed", "modern"] if options.quick else list(RECIPES))
    seeds = {name: 1 if options.quick else options.seeds or RECIPES.get(name, 1) for name in names}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    theirs: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as home:
        os.environ["MLP_HOME"] = home
        first = sets_of(names[0], options.text, 0)
        ended([*MLP, "prepare", "shakespeare", *first])
        ended([*MLP, "train", "shakespeare", *first, "--config", f"{TINY}"])
        for seed in range(1, 1 + max(seeds.values())):
            for name in (name for name in names if seed <= seeds[name]):
                found[name].append(run_of(name, options.text, seed))
                progress(f"seed {seed}, {name}: {found[name][-1][0]:.1f} s, {found[name][-1][1]:.4f}")
            if options.nanogpt is not None and not theirs:
                theirs.append(nanogpt(options.nanogpt.absolute()))
                progress(f"nanoGPT: {theirs[-1][0]:.1f} s, about {theirs[-1][1]:.4f}")
    peer_s = theirs[0][0] if theirs else options.nanogpt_seconds
    rows = [judged(name, found[name], peer_s, measured=bool(theirs)) for name in names]
    if theirs:
        rows.append(Row(["nanoGPT as shipped", peer_s, 1.0, f"{theirs[0][1]:.3f}", "its own estimate, 20 batches"]))
    source = "in this run" if theirs else "as measured once on the reference machine"
    yield Table(
        "time_to_loss",
        "Wall time from process start, and loss over the whole validation part, nats per character",
        ["recipe", "seconds", "of nanoGPT's time", "loss", "seeds"],
        rows,
        notes=[
            f"nanoGPT: {peer_s:.1f} s ({source}), {NANOGPT_LOSS} nats over the whole validation part.",
            "Data prepared and rates measured before, outside the time. Judged only beside a nanoGPT that ran in turn (--nanogpt).",
        ],
    )


def judged(name: str, runs: list[tuple[float, float]], peer_s: float, *, measured: bool) -> Row:
    """A row; a recipe is held against one of the two promises, by its name, if nanoGPT's time was measured beside it."""
    seconds, losses = statistics.median(run[0] for run in runs), [run[1] for run in runs]
    share, loss = seconds / peer_s, statistics.fmean(losses)
    cells = [f"recipe/{name}", seconds, share, f"{loss:.3f}", f"{min(losses):.3f} to {max(losses):.3f}"]
    if not measured:
        return Row(cells)
    if name.endswith("_long"):
        return Row(cells, target="loss at nanoGPT's time", value=loss if share <= 1 else None)
    if name == "nanogpt":
        return Row(cells)
    return Row(
        cells, target="nanoGPT's loss in a share of its time", value=share if max(losses) <= NANOGPT_LOSS else None
    )


if __name__ == "__main__":
    typed = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    typed.add_argument(
        "--text",
        type=Path,
        default=SHAKESPEARE if SHAKESPEARE.is_file() else None,
        help="Tiny Shakespeare; else fetched",
    )
    typed.add_argument("--recipe", action="append", help="only these groups recipe/NAME")
    typed.add_argument("--seeds", type=int, help="of each recipe")
    typed.add_argument(
        "--nanogpt",
        type=Path,
        metavar="DIR",
        default=Path(checkout) if (checkout := os.environ.get("MLP_BENCH_NANOGPT")) else None,
        help="a checkout of nanoGPT, its data prepared",
    )
    typed.add_argument(
        "--nanogpt-seconds", type=float, default=82.5, help="its time on this machine, where it is not run"
    )
    publish(tables, command_line(__doc__, typed))
