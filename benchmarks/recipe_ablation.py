"""A recipe with each ingredient switched off alone, over several seeds: what each is worth, in nats and in time.

Only the training part of the text is read: its last tenth is held out to measure on, so that the validation part stays
untouched while a recipe is tuned (`--untouched` takes it, once, at the end). The loss is that of the whole held-out part.
Time is CPU time of the whole run on one thread, as a ratio to the full recipe with the same seed, the variants in turn.

    python benchmarks/recipe_ablation.py --recipe speed
    python benchmarks/recipe_ablation.py --recipe speed --variant 'lr 0.02: optimizer.lr=0.02'
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from budget_texts import SHAKESPEARE
from tables import Row, Table, command_line, progress, publish

from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.engine import run_job

FULL = "the whole recipe"
ADAM = 'optimizer={kind="adamw", lr=4e-3, weight_decay=0.0}'
SHARED: Mapping[str, Sequence[str]] = {
    "AdamW instead of Muon": [ADAM],
    "learned positions instead of rotary": ["model.position=learned"],
    "LayerNorm instead of RMSNorm": ["model.norm=layer_norm"],
    "no QK-norm": ["model.qk_norm=false"],
    "projections start at zero": ["model.zero_init=true"],
    "learning rate stays at its peak": ['schedule={kind="warmup_constant", warmup_steps=5}'],
}
WITHOUT: Mapping[str, Mapping[str, Sequence[str]]] = {
    "speed": {
        "no bigram table": ["model.bigram_rows=0"],
        "GELU instead of ReLU²": ["model.feed_forward=gelu"],
        **SHARED,
    },
    "modern": {"GELU instead of SwiGLU": ["model.feed_forward=gelu"], **SHARED},
}
"""By recipe: what is switched off, and how; projections at zero are an ingredient that was tried and left out."""


def job_of(recipe: str, text: Path, sets: Sequence[str], seed: int) -> JobConfig:
    """The shakespeare experiment by a recipe, on one thread, evaluated on the whole held-out part at its end alone."""
    own = [f'prepare.source={{kind="text_file", path="{text}"}}', f"use=recipe/{recipe}", *sets]
    quiet = ["hooks.console.enabled=false", "hooks.samples.enabled=false", "runtime.threads=1", "runtime.compile=false"]
    last = ["train.evaluation_batches=none", "train.evaluate_every_steps=1000000"]
    return load("shakespeare", sets=[*own, *quiet, *last, f"seed={seed}"], environ={}).job


def trained(job: JobConfig) -> tuple[float, float]:
    """Loss on the whole held-out part in nats per character, and CPU seconds."""
    prepare(job.prepare, Deps())
    before_s = time.process_time()
    result = run_job(job, Deps())
    return result.metrics["loss"], time.process_time() - before_s


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Every variant with every seed, in turn."""
    variants = {FULL: [], **WITHOUT[options.recipe.partition("_")[0]]} if not options.variant else {}
    for variant in options.variant:
        name, _, sets = variant.partition(":")
        variants[name] = sets.split()
    losses: dict[str, list[float]] = {name: [] for name in variants}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as home:
        os.environ["MLP_HOME"] = home
        text = options.text.absolute()
        if not options.untouched:
            text = Path(home) / "training_part.txt"
            whole = options.text.read_text(encoding="utf-8")
            text.write_text(whole[: int(len(whole) * 0.9)], encoding="utf-8")
        for seed in range(1, 1 + (1 if options.quick else options.seeds)):
            for name, sets in variants.items():
                loss, spent_s = trained(job_of(options.recipe, text, [*options.set, *sets], seed))
                losses[name].append(loss)
                seconds[name].append(spent_s)
                progress(f"seed {seed}, {name}: {loss:.4f} in {spent_s:.1f} CPU s")
    first = next(iter(variants))
    rows = []
    for name in variants:
        mean = statistics.fmean(losses[name])
        ratio = statistics.median(s / f for s, f in zip(seconds[name], seconds[first], strict=True))
        spread = f"{min(losses[name]):.3f} to {max(losses[name]):.3f}"
        rows.append(Row([name, f"{mean:.3f}", spread, f"{mean - statistics.fmean(losses[first]):+.3f}", ratio]))
    part = "the validation part" if options.untouched else "the last tenth of the training part"
    yield Table(
        f"ablation_{options.recipe}",
        f"recipe/{options.recipe}: loss on {part}, nats per character",
        ["variant", "mean", "seeds", "against the first", "CPU time"],
        rows,
        notes=[f"{len(losses[first])} seeds; CPU time of a whole run on one thread, as a ratio to the first row's."],
    )


if __name__ == "__main__":
    typed = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    typed.add_argument("--text", type=Path, default=SHAKESPEARE, help="a text file; its last tenth is for validation")
    typed.add_argument("--recipe", default="speed", help="a group recipe/NAME")
    typed.add_argument("--seeds", type=int, default=3)
    typed.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="laid over every variant")
    typed.add_argument(
        "--variant", action="append", default=[], metavar="'NAME: KEY=VALUE ...'", help="instead of ours"
    )
    typed.add_argument("--untouched", action="store_true", help="measure on the validation part, once, at the end")
    publish(tables, command_line(__doc__, typed))
