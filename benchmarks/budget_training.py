"""The trainings on which the loss law of budget mode is fitted: what is run, and how (`budget_fit.py` fits them).

A plan is a trunk at the peak learning rate, from which branches come down to zero at several lengths. A run is a line of
budget_runs.jsonl, with the recipe by its fingerprint: where planning/recipe.py has changed since, it counts no more.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from budget_texts import texts

from ml_playground.configuration import families
from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.registry import load_object
from ml_playground.core.seeding import seed_for
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.text_dataset import as_text
from ml_playground.planning.budget import ANCHOR, Candidate
from ml_playground.planning.ngrams import counted_loss
from ml_playground.planning.recipe import recipe_of

RUNS = Path(__file__).with_name("budget_runs.jsonl")
ANCHOR_STEPS = 131
EVALUATED = 40_000
"""Validation tokens of the last loss, at most."""
PRESETS = ("recipe/speed", "recipe/speed_long")
"""Our fixed recipes, of which runs by the clock (`budget_mode.py`) are among the lines, under their names."""


@dataclass(frozen=True)
class Plan:
    """A trunk and its branches."""

    text: str
    layers: int
    width: int
    sequence_tokens: int
    rows: int
    steps: Sequence[int]
    decay: float = 0.6
    part: int | None = None
    """Only the first tokens of the text are read, again and again."""
    dropout: float = 0.0

    @property
    def candidate(self) -> Candidate:
        """Its size, context and batch."""
        return Candidate(self.layers, self.width, self.sequence_tokens, self.rows)


SHAKESPEARE, DOCSTRINGS, STDLIB, STDLIB_BPE = "shakespeare_char", "docstrings_char", "stdlib_char", "stdlib_bpe"
PLANS = (
    *(Plan(text, 3, 128, 64, 24, (65, 131, 262, 524)) for text in (SHAKESPEARE, DOCSTRINGS, STDLIB)),
    *(Plan(text, 3, 128, 64, 24, (65, 131, 262)) for text in (STDLIB_BPE, "docstrings_bpe")),
    # Size, context and batch alone.
    *(Plan(text, 4, 192, 64, 24, (65, 262)) for text in (SHAKESPEARE, DOCSTRINGS)),
    Plan(SHAKESPEARE, 2, 96, 64, 24, (65, 262, 524)),
    Plan(SHAKESPEARE, 3, 128, 256, 6, (262,)),
    Plan(SHAKESPEARE, 3, 128, 64, 96, (66,)),
    # A few pages again and again, each with its anchor, and with dropout.
    *(Plan(SHAKESPEARE, 3, 128, 64, 24, (131,), part=part) for part in (60_000, 100_000, 200_000)),
    Plan(SHAKESPEARE, 3, 128, 64, 24, (262, 524), part=60_000),
    Plan(SHAKESPEARE, 3, 128, 64, 24, (262,), part=200_000),
    *(Plan(SHAKESPEARE, 3, 128, 64, 24, (391,), decay=0.85, part=100_000, dropout=dropout) for dropout in (0.0, 0.1)),
    Plan(DOCSTRINGS, 3, 128, 64, 24, (524,), dropout=0.1),
    # What minutes buy.
    Plan(SHAKESPEARE, 3, 128, 64, 24, (1600,), decay=0.85),
    Plan(SHAKESPEARE, 3, 128, 128, 6, (3297,), decay=0.85, dropout=0.1),
    Plan(SHAKESPEARE, 3, 128, 256, 6, (2089,), decay=0.85, dropout=0.1),
    Plan(STDLIB_BPE, 3, 128, 64, 24, (1780,), decay=0.85),
    Plan(SHAKESPEARE, 3, 128, 256, 6, (2706,), decay=0.85),
    Plan(SHAKESPEARE, 2, 192, 256, 6, (2000,), decay=0.85),
    Plan(DOCSTRINGS, 2, 256, 256, 8, (532,), decay=0.85),
    Plan(DOCSTRINGS, 3, 128, 64, 24, (1750,), decay=0.85),
)


def rows_of(path: Path = RUNS) -> list[dict[str, Any]]:
    """What was measured with the recipe in force, or with a fixed one."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["recipe"] in (fingerprint(), *PRESETS)]


def fingerprint() -> str:
    """Of the recipe that all runs share."""
    return hashlib.sha256(json.dumps(recipe_of(ANCHOR, ANCHOR_STEPS)).encode()).hexdigest()[:8]


def job_of(plan: Plan, home: Path) -> JobConfig:
    """The text of a plan with the recipe, on one thread."""
    text = next(text for text in texts(home / "texts") if text.name == plan.text)
    layer = recipe_of(plan.candidate, max(plan.steps), dropout=plan.dropout)
    sets = [
        f"{section}.{name}={json.dumps(value)}" for section, table in layer.items() for name, value in table.items()
    ]
    runtime = ["runtime.device=cpu", "runtime.threads=1", "runtime.dtype=bfloat16", "runtime.attention=math"]
    return load("python_stdlib", sets=[*text.sets, *sets, *runtime, "seed=1"], environ={}).job


def learner_of(job: JobConfig, data: Any) -> Any:
    """The learner of a job, with the weights that its seed gives."""
    import torch

    from ml_playground.training.building import build_learner, build_model

    torch.set_num_threads(1)
    torch.manual_seed(seed_for(job.seed, "weights"))
    model = build_model(job, data.facts, torch.device("cpu"), load_pretrained=False)
    return build_learner(job, model, load_object(families.OBJECTIVES[job.objective.kind_name].build)(job.objective))


def train(plan: Plan, home: Path) -> Iterator[dict[str, Any]]:
    """Train a trunk and its branches; a row for each."""
    os.environ["MLP_HOME"] = str(home)
    from ml_playground.data_pipeline.sampling.token_windows import TrainingBatches, Windows
    from ml_playground.training.building import open_data

    job = job_of(plan, home)
    prepared = as_text(prepare(job.prepare, Deps()))
    data: Any = open_data(job)
    tokens = prepared.tokens("train")[: plan.part and plan.part + 1]
    source = TrainingBatches(Windows(tokens, plan.sequence_tokens), job.data, job.seed)
    learner = learner_of(job, data)
    counts = prepared.manifest.ledger.splits["val"]
    step = 0
    for end in plan.steps:
        begin = int((1 - plan.decay) * end)
        while step < begin:
            learner.train_step([source.batch_at(step)], step=step, lr_factor=min(1.0, (step + 1) / 20))
            step += 1
        trunk = {group: {n: t.clone() for n, t in kept.items()} for group, kept in learner.state_dict().items()}
        for number in range(step, end):
            warm = (number + 1) / min(20, max(1, end // 4))
            factor = min(1.0, warm, (end - number) / max(1, end - begin))
            learner.train_step([source.batch_at(number)], step=number, lr_factor=factor)
        batches = max(1, EVALUATED // plan.candidate.step_tokens)
        loss = learner.evaluate(data.split("val", max_batches=batches))["loss"]
        yield {
            "text": plan.text,
            "counted_loss": round(counted_loss(tokens, prepared.tokens("val"), prepared.manifest.vocab_size), 4),
            "bytes_per_token": round(counts.bytes / counts.tokens, 4),
            "unique": plan.part or len(tokens),
            **{name: value for name, value in asdict(plan).items() if name not in ("text", "steps")},
            "recipe": fingerprint(),
            "steps": end,
            "loss": round(loss, 4),
        }
        if end != plan.steps[-1]:
            learner.load_state_dict(trunk)


def missing(rows: Sequence[Mapping[str, Any]]) -> Iterator[Plan]:
    """Plans with those of their lengths that are not there yet."""
    for plan in PLANS:
        same = {"recipe": fingerprint()} | {name: value for name, value in asdict(plan).items() if name != "steps"}
        there = {row["steps"] for row in rows if same.items() <= row.items()}
        if left := tuple(steps for steps in plan.steps if steps not in there):
            yield replace(plan, steps=left)


def train_missing(home: Path) -> Iterator[Plan]:
    """Make what is not there yet, each plan said before; runs of another recipe are dropped."""
    rows = rows_of() if RUNS.exists() else []
    RUNS.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for plan in missing(rows):
        yield plan
        with RUNS.open("a", encoding="utf-8") as file:
            file.writelines([json.dumps(row) + "\n" for row in train(plan, home)])
