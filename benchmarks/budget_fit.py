"""Fits the loss law of budget mode on runs of this machine, and prints how wrong it is on texts that it did not see.

    python benchmarks/budget_fit.py                 # fit the runs of budget_runs.jsonl, print the table
    python benchmarks/budget_fit.py --write         # also renew src/ml_playground/planning/scaling.json
    python benchmarks/budget_fit.py --train         # train what budget_runs.jsonl lacks first: an hour of one core

A run is one line: text, model, batches, steps, loss. Several lengths share a trunk at the peak learning rate, from which each
branches off to come down to zero over the last part of its own length. Losses depend on steps, never on the clock, so that a
busy machine does no harm. `law` of the script is the shape in planning/scaling.py; what is fitted are its constants.
"""

import argparse
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from budget_texts import texts
from tables import Row, Table, command_line, progress, publish

from ml_playground.planning.recipe import recipe_of
from ml_playground.planning.scaling import FILE, Law, TextDifficulty, Training, fitted_law, forecast

RUNS = Path(__file__).with_name("budget_runs.jsonl")
ANCHOR_STEPS = 131
FREE = ("floor", "size_scale", "data_power", "context_scale", "critical_tokens", "repeat_scale", "dropout_help")
"""Constants that are fitted; the powers of size, context and repetition are those of the sources, for the runs span too little."""
GUESS = Law(0.65, 0.27, 0.4, 0.35, 6.0, 0.2, 0.5, 6000.0, 0.13, 4.6, 0.03)
LOOSE = {
    "floor": 0.4,
    "size_scale": 0.15,
    "data_power": 0.5,
    "context_scale": 1.0,
    "critical_tokens": 0.7,
    "repeat_scale": 1.0,
    "dropout_help": 0.5,
}
"""How far, in logarithms, a constant may lie from its guess where the runs say little."""
NOISE = 0.015
"""Standard deviation of ln(loss) between seeds and orders of batches."""


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
    unique: int | None = None
    """Only the first tokens of the text are read, again and again."""
    dropout: float = 0.0


SHAKESPEARE, DOCSTRINGS, STDLIB = "shakespeare_char", "docstrings_char", "stdlib_char"
PLANS = (
    *(Plan(text, 3, 128, 64, 24, (65, 131, 262, 524)) for text in (SHAKESPEARE, DOCSTRINGS, STDLIB)),
    *(Plan(text, 3, 128, 64, 24, (65, 131, 262)) for text in ("stdlib_bpe", "docstrings_bpe")),
    *(Plan(text, 4, 192, 64, 24, (65, 262)) for text in (SHAKESPEARE, DOCSTRINGS)),
    Plan(SHAKESPEARE, 2, 96, 64, 24, (65, 262, 524)),
    Plan(SHAKESPEARE, 3, 128, 256, 6, (262,)),
    Plan(SHAKESPEARE, 3, 128, 64, 96, (66,)),
    Plan(SHAKESPEARE, 3, 128, 64, 24, (1600,), decay=0.85),
    Plan(SHAKESPEARE, 3, 128, 64, 24, (262, 524), unique=60_000),
    *(Plan(SHAKESPEARE, 3, 128, 64, 24, (391,), decay=0.85, unique=100_000, dropout=d) for d in (0.0, 0.1, 0.25)),
)


def rows_of(path: Path = RUNS) -> list[dict[str, Any]]:
    """What was measured."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def training_of(row: Mapping[str, Any]) -> Training:
    """What the law knows of a run."""
    return Training(
        parameters=12 * row["layers"] * row["width"] ** 2,
        bytes_per_token=row["bytes_per_token"],
        text_tokens=row["unique"],
        sequence_tokens=row["sequence_tokens"],
        step_tokens=row["sequence_tokens"] * row["rows"],
        steps=row["steps"],
        dropout=row["dropout"],
    )


def difficulties(rows: Sequence[Mapping[str, Any]]) -> dict[str, TextDifficulty]:
    """What is known of each text: its anchor is the run of `ANCHOR_STEPS` steps."""
    return {
        row["text"]: TextDifficulty(row["counted_loss"], training_of(row), row["loss"])
        for row in rows
        if row["steps"] == ANCHOR_STEPS and (row["layers"], row["width"], row["rows"]) == (3, 128, 24)
    }


def errors(law: Law, rows: Sequence[Mapping[str, Any]], known: Mapping[str, TextDifficulty]) -> np.ndarray:
    """ln(loss / forecast) of each run."""
    return np.array(
        [math.log(row["loss"] / max(0.1, forecast(law, known[row["text"]], training_of(row)).loss)) for row in rows]
    )


def fitted(rows: Sequence[Mapping[str, Any]], known: Mapping[str, TextDifficulty]) -> Law:
    """The constants of the smallest squared errors, held near their guesses where the runs say little."""
    start = np.zeros(len(FREE))

    def law_at(point: np.ndarray) -> Law:
        moved = {name: getattr(GUESS, name) * math.exp(LOOSE[name] * x) for name, x in zip(FREE, point, strict=True)}
        return replace(GUESS, **moved)

    def cost(point: np.ndarray) -> float:
        # Beyond 10 % an error counts in a line: runs that learnt a text by heart must not decide about the others.
        size = np.abs(errors(law_at(point), rows, known)) / NOISE
        return float(np.where(size < 6, size**2, 12 * size - 36).sum() + (point**2).sum())

    return law_at(lowest(cost, start))


def lowest(cost: Callable[[np.ndarray], float], start: np.ndarray, rounds: int = 1500) -> np.ndarray:
    """Where a function is lowest, by the simplex of Nelder and Mead (1965)."""
    points = [start, *(start + 0.5 * axis for axis in np.eye(len(start)))]
    values = [cost(point) for point in points]
    for _ in range(rounds):
        order = np.argsort(values)
        points, values = [points[i] for i in order], [values[i] for i in order]
        middle = np.mean(points[:-1], axis=0)
        for stretch in (1.0, 2.0) if cost(2 * middle - points[-1]) < values[0] else (1.0, -0.5):
            trial = middle + stretch * (middle - points[-1])
            value = cost(trial)
            if value < values[-1]:
                points[-1], values[-1] = trial, value
                break
        else:
            points = [points[0], *(points[0] + 0.5 * (point - points[0]) for point in points[1:])]
            values = [values[0], *(cost(point) for point in points[1:])]
    return points[int(np.argmin(values))]


def family(text: str) -> str:
    """The text, whatever its tokenizer."""
    return text.partition("_")[0]


def left_out(rows: Sequence[Mapping[str, Any]], known: Mapping[str, TextDifficulty]) -> dict[str, np.ndarray]:
    """For each text the errors of a law that was fitted on the others, a decade of tokens beyond its anchor."""
    found: dict[str, np.ndarray] = {}
    for text in sorted({family(row["text"]) for row in rows}):
        own = [row for row in rows if family(row["text"]) == text and row["steps"] > ANCHOR_STEPS and is_whole(row)]
        law = fitted([row for row in rows if family(row["text"]) != text], known)
        decades = [max(0.25, math.log10(row["steps"] / ANCHOR_STEPS)) for row in own]
        found[text] = errors(law, own, known) / np.array(decades)
    return found


def is_whole(row: Mapping[str, Any]) -> bool:
    """Whether a run read its whole text, not a few pages again and again."""
    return row["dropout"] == 0.0 and row["unique"] > 200_000


def train(plan: Plan, home: Path) -> Iterator[dict[str, Any]]:
    """Train a trunk and its branches; a row for each."""
    os.environ["MLP_HOME"] = str(home)
    import torch

    from ml_playground.configuration import families
    from ml_playground.configuration.loading import load
    from ml_playground.core.deps import Deps
    from ml_playground.core.registry import load_object
    from ml_playground.core.seeding import seed_for
    from ml_playground.data_pipeline.preparer import prepare
    from ml_playground.data_pipeline.sampling.token_windows import TrainingBatches, Windows
    from ml_playground.planning.budget import Candidate
    from ml_playground.planning.ngrams import counted_loss
    from ml_playground.training.building import build_learner, build_model, open_data

    text = next(text for text in texts(home / "texts") if text.name == plan.text)
    candidate = Candidate(plan.layers, plan.width, plan.sequence_tokens, plan.rows)
    layer = recipe_of(candidate, max(plan.steps), dropout=plan.dropout)
    sets = [
        f"{section}.{name}={json.dumps(value)}" for section, table in layer.items() for name, value in table.items()
    ]
    runtime = ["runtime.device=cpu", "runtime.threads=1", "runtime.dtype=bfloat16", "runtime.attention=math"]
    job = load("python_stdlib", sets=[*text.sets, *sets, *runtime, "seed=1"], environ={}).job
    prepared = prepare(job.prepare, Deps())
    data: Any = open_data(job)
    tokens = prepared.tokens("train")
    source = data.train
    if plan.unique is not None:
        source = TrainingBatches(Windows(tokens[: plan.unique + 1], plan.sequence_tokens), job.data, job.seed)
    torch.set_num_threads(1)
    torch.manual_seed(seed_for(job.seed, "weights"))
    model = build_model(job, data.facts, torch.device("cpu"), load_pretrained=False)
    objective = load_object(families.OBJECTIVES[job.objective.kind_name].build)(job.objective)
    learner = build_learner(job, model, objective)
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
        batches = max(1, 40_000 // candidate.step_tokens)
        loss = learner.evaluate(data.split("val", max_batches=batches))["loss"]
        yield {
            "text": plan.text,
            "counted_loss": round(counted_loss(tokens, prepared.tokens("val"), prepared.manifest.vocab_size), 4),
            "bytes_per_token": round(counts.bytes / counts.tokens, 4),
            "unique": plan.unique or len(tokens),
            **{name: value for name, value in asdict(plan).items() if name not in ("text", "steps", "unique")},
            "steps": end,
            "loss": round(loss, 4),
        }
        learner.load_state_dict(trunk)


def missing(rows: Sequence[Mapping[str, Any]]) -> Iterator[Plan]:
    """Plans of which a run is not there yet."""
    names = ("text", "layers", "width", "sequence_tokens", "rows", "dropout")
    for plan in PLANS:
        there = {
            row["steps"]
            for row in rows
            if all(row[name] == getattr(plan, name) for name in names)
            and (plan.unique is None or row["unique"] == plan.unique)
        }
        if not there >= set(plan.steps):
            yield plan


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Fit, and say how wrong the law is."""
    if options.train:
        with tempfile.TemporaryDirectory() as home:
            for plan in missing(rows_of()):
                progress(f"training {plan}")
                with RUNS.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in train(plan, Path(home)))
    every = rows_of()
    known = difficulties(every)
    rows = [row for row in every if row["steps"] >= ANCHOR_STEPS // 2 and row["text"] in known]
    unseen = left_out(rows, known)
    law = replace(
        fitted(rows, known), spread=round(float(np.sqrt(np.mean(np.concatenate(list(unseen.values())) ** 2))), 4)
    )
    law = replace(law, **{name: float(f"{getattr(law, name):.4g}") for name in FREE})
    if options.write:
        provenance = {
            "runs": len(rows),
            "texts": sorted({row["text"] for row in rows}),
            "script": "benchmarks/budget_fit.py",
        }
        FILE.write_text(json.dumps({"law": asdict(law), "provenance": provenance}, indent=2) + "\n", encoding="utf-8")
    own = errors(law, rows, known)
    yield Table(
        "budget_fit",
        "The loss law on the runs it was fitted on",
        ["text", "blocks", "width", "context", "rows", "steps", "epochs", "loss", "forecast", "error, %"],
        [
            Row([row["text"], row["layers"], row["width"], row["sequence_tokens"], row["rows"], row["steps"],
                 training_of(row).epochs, row["loss"], row["loss"] * math.exp(-error), 100 * float(error)])
            for row, error in zip(rows, own, strict=True)
        ],
        notes=[f"constants: {asdict(law)}", f"in force: {asdict(fitted_law())}"],
    )  # fmt: skip
    yield Table(
        "budget_left_out",
        "The law fitted without a text, on that text: error a decade of tokens beyond the anchor",
        ["text", "runs", "mean, %", "largest, %"],
        [
            Row([text, len(found), 100 * float(found.mean()), 100 * float(found[np.argmax(np.abs(found))])])
            for text, found in unseen.items()
            if len(found)
        ],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--write", action="store_true")
    publish(tables, command_line(__doc__, parser))
