"""The jobs that `kill_and_resume.py` kills: every shipped experiment in every variant, cut so short that a run takes a second."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
WITHOUT_A_BASE = {*OF_TEXT, "Muon", "dropout, accumulation"}
"""Variants that leave nothing of a model from elsewhere, find no matrix of its adapter to turn, or no dropout (its adapter has its own)."""
SENTENCES = "".join(f"{n} green bottles hanging on the wall, and {n - 1} after the fall.\n" for n in range(300, 0, -1))
"""Stands for a text that would have to be fetched."""


def tiny_jobs(folder: Path) -> dict[tuple[str, str], JobConfig]:
    """Every shipped experiment in every variant that fits it; what would be fetched is replaced by what is here."""
    text = folder / "bottles.txt"
    write_file(text, SENTENCES)
    instead = {"url_text": f"{{kind='text_file', path='{text}'}}", "mnist": "{kind='digits'}"}
    jobs: dict[tuple[str, str], JobConfig] = {}
    entries = {entry.name: entry.path / "test_config.toml" for entry in list_experiments() if entry.shipped}
    fitting = {name: variants_of(load(name, files=[overlay]).job) for name, overlay in entries.items()}
    for name, variant in in_turn(fitting):
        source = load(name, files=[entries[name]]).job.prepare.source.kind_name
        replaced = [f"prepare.source={instead[source]}"] if source in instead else []
        sets = [*replaced, *SHARED, *VARIANTS[variant]]
        jobs[name, variant] = load(name, files=[entries[name]], sets=sets).job
    return jobs


def variants_of(job: JobConfig) -> list[str]:
    """Those that leave of a job what it is."""
    unfit: set[str] = set()
    if job.objective.kind_name != "next_token" or job.data.packs:
        unfit |= OF_TEXT
    if job.model.kind_name == "hf_causal_lm":
        unfit |= WITHOUT_A_BASE
    return [name for name in VARIANTS if name not in unfit]


def in_turn(lists: Mapping[A, Sequence[B]]) -> Iterator[tuple[A, B]]:
    """Each key with each of its values once: keys take turns, each with the value that came least, so that the first few hold all."""
    left = {key: list(values) for key, values in lists.items()}
    came = Counter[B]()
    while any(left.values()):
        for key, values in left.items():
            if values:
                value = min(values, key=came.__getitem__)
                values.remove(value)
                came[value] += 1
                yield key, value
