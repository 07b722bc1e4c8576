"""Peak memory of training the 95m preset at micro-batch 1, beyond what importing torch takes: the promise for devices of 4 GB.

Each case is a process of its own that prepares a text and trains some steps with checkpoints and an evaluation, as `mlp train`
does, and tells the peak of its whole life. The last columns say what of it the plan (`planning/memory.py`) accounts for.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from our_training import random_text
from paired import Program, ProgramError
from shapes import characters
from tables import Row, Table, command_line, progress, publish

from ml_playground.configuration.loading import load
from ml_playground.core.deps import Deps
from ml_playground.core.process_memory import peak_bytes
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.planning.memory import planned_bytes

HERE = Path(__file__)
MEGABYTE = 1e6
IMPORTED = """
import json, torch
from ml_playground.core.process_memory import resident_bytes
print(json.dumps({"resident": resident_bytes()}))
"""
VOCABULARY = 8_192
"""As a subword tokenizer of that size has; characters have less."""
STEPS = 4
"""Saved after the second and at the end, evaluated at the end: by then every buffer has been made."""

CASES: Mapping[str, tuple[str, ...]] = {
    "256 tokens": (),
    "256 tokens, float32": ("runtime.dtype=float32",),
    "256 tokens, Muon": ('optimizer={kind="muon"}',),
    "256 tokens, averaged weights": ("train.ema_decay=0.99",),
    "1,024 tokens": ("data.sequence_tokens=1024",),
    "256 tokens, blocks kept": ("runtime.activation_checkpointing=false",),
}
TARGET = "95m preset at micro-batch 1"
PROMISED = ("256 tokens", "256 tokens, float32", "256 tokens, Muon", "1,024 tokens")
"""The cases that must stay below 4 GB."""


def experiment_of(text: Path) -> str:
    """A config.toml with the preset as it is, on a text of as many different characters as there would be subwords."""
    lines = [
        'use = ["model/95m"]',
        f'prepare.source = {{kind = "text_file", path = "{text}"}}',
        'prepare.tokenizer = {kind = "char"}',
        'prepare.split_by = "position"',
        'data = {kind = "token_windows", sequence_tokens = 256, micro_batch_rows = 1}',
        'optimizer = {kind = "adamw"}',
        'schedule = {kind = "warmup_constant", warmup_steps = 1}',
        f"train = {{max_steps = {STEPS}, micro_batches_per_step = 2, evaluation_batches = 2}}",
        "checkpointing.every_steps = 2",
        "runtime.compile = false",
        f'hooks.samples.prompt = "{characters(2)[0]}"',
    ]
    return "\n".join(lines)


def measure(sets: tuple[str, ...]) -> None:
    """Prepare and train in this process; print its peak, and the plan."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["MLP_HOME"] = home
        text = Path(home) / "text.txt"
        random_text(VOCABULARY, text)
        folder = Path(home) / "experiments" / "low"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(experiment_of(text), encoding="utf-8")
        job = load("low", sets=sets).job
        from ml_playground.training.engine import run_job

        prepare(job.prepare, Deps())
        result = run_job(job, Deps())
        if result.step != STEPS:
            raise SystemExit(f"the run ended after {result.step} steps: {result.reason}, {result.message}")
    plan = planned_bytes(job, {"vocab_size": VOCABULARY, "sequence_tokens": job.data.sequence_tokens})
    if plan is None:
        raise SystemExit("the memory of this kind of model is not planned")
    print(json.dumps({"peak": peak_bytes(), "planned": plan.total, **asdict(plan)}))


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """One line a case."""
    rows, problems, parts = [], [], []
    imported = Program("import torch", ["-c", IMPORTED]).run()["resident"]
    for name in CASES:
        if options.quick and name != "256 tokens":
            continue
        progress(name)
        try:
            found = Program(name, [str(HERE), "--part", name]).run()
        except ProgramError as error:
            problems.append(str(error))
            continue
        parts = [part for part in found if part not in ("peak", "planned")]
        beyond = found["peak"] - imported
        cells = [name, beyond / MEGABYTE, found["planned"] / MEGABYTE, *(found[part] / MEGABYTE for part in parts)]
        rows.append(Row(cells, TARGET, beyond / 1e9) if name in PROMISED else Row(cells))
    columns = ["case", "measured, MB", "planned, MB", *parts]
    how = f"`model/95m`, a vocabulary of {VOCABULARY:,}, micro-batches of one row, two a step, {STEPS} steps, two checkpoints."
    above = (
        f"Resident memory at its peak, beyond the {imported / MEGABYTE:.0f} MB of a process that only imports torch."
    )
    notes = [f"{how} {above}"]
    yield Table("low_memory", "Memory of training the 95m preset", columns, rows, notes, problems)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        measure(CASES[sys.argv[2]])
    else:
        publish(tables, command_line(__doc__))
