"""The jobs that `kill_and_resume.py` kills: every shipped experiment in every variant, cut so short that a run takes a second."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ml_playground.configuration.loading import list_experiments, load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import write_file

A, B = TypeVar("A"), TypeVar("B")

STEPS = 48
SHARED = (
    f"train.max_steps={STEPS}",
    "train.log_every_steps=5",
    "train.evaluate_every_steps=12",
    "train.evaluation_batches=2",
    "checkpointing.every_steps=7",
    "checkpointing.every_minutes=none",
    "hooks.samples.every_steps=16",
    "runtime={device='cpu', dtype='float32', threads=1}",
)
VARIANTS: dict[str, Sequence[str]] = {
    "AdamW": ["optimizer={kind='adamw', lr=0.01}"],
    "Muon": ["optimizer={kind='muon', lr=0.01}"],
    "averaged weights": ["train.ema_decay=0.9"],
    "dropout, accumulation": ["model.dropout=0.2", "train.micro_batches_per_step=2"],
    "bfloat16": ["runtime.dtype=bfloat16"],
    "LSTM": ["model={kind='char_rnn', n_layer=2, n_hidden=16, dropout=0.1}"],
    "minimal GRU, Muon": ["model={kind='min_gru', n_layer=2, n_embd=16}", "optimizer={kind='muon', lr=0.01}"],
    "early stopping": [
        "hooks.stop={kind='early_stopping', patience=2, min_delta=0.4}",
        "train.evaluate_every_steps=6",
    ],
}
OF_TEXT = {"LSTM", "minimal GRU, Muon"}
"""Variants whose model reads text."""
WITHOUT_A_BASE = {*OF_TEXT, "Muon"}
"""Variants that leave nothing of a model from elsewhere, or find no matrix of its adapter to turn."""
SENTENCES = "".join(f"{n} green bottles hanging on the wall, and {n - 1} after the fall.\n" for n in range(300, 0, -1))
"""Stands for a text that would have to be fetched."""


def tiny_jobs(folder: Path) -> dict[tuple[str, str], JobConfig]:
    """Every shipped experiment in every variant that fits it; what would be fetched is replaced by what is here."""
    text = folder / "bottles.txt"
    write_file(text, SENTENCES)
    instead = {"url_text": f"{{kind='text_file', path='{text}'}}", "mnist": "{kind='digits'}"}
    jobs: dict[tuple[str, str], JobConfig] = {}
    entries = [entry for entry in list_experiments() if entry.shipped]
    for entry, name in in_turn(entries, list(VARIANTS)):
        overlay = [entry.path / "test_config.toml"]
        plain = load(entry.name, files=overlay).job
        if name in OF_TEXT and plain.objective.kind_name != "next_token":
            continue
        if name in WITHOUT_A_BASE and plain.model.kind_name == "hf_causal_lm":
            continue
        here = instead.get(plain.prepare.source.kind_name)
        source = [f"prepare.source={here}"] if here else []
        jobs[entry.name, name] = load(entry.name, files=overlay, sets=[*source, *SHARED, *VARIANTS[name]]).job
    return jobs


def in_turn(some: Sequence[A], others: Sequence[B]) -> Iterator[tuple[A, B]]:
    """Every pair once; both change from one pair to the next, so that the first few hold each of `some` and each of `others`."""
    together = math.lcm(len(some), len(others))
    for number in range(len(some) * len(others)):
        yield some[number % len(some)], others[(number + number // together) % len(others)]
