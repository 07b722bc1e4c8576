"""Fits the loss law of budget mode on runs of this machine, and prints how wrong it is on texts that it did not see.

    python benchmarks/budget_fit.py                 # fit the runs of budget_runs.jsonl, print the table
    python benchmarks/budget_fit.py --write         # also renew src/ml_playground/planning/scaling.json
    python benchmarks/budget_fit.py --train         # train what budget_runs.jsonl lacks first: half an hour of one core

What is run, and how, is in `budget_training.py`. Losses depend on steps, never on the clock, so that a busy machine does no harm.
The first tokens of a text, read again and again, are a text of their own, with its own anchor, as they would be to a plan. The
law's shape is in planning/scaling.py; what is fitted are its constants.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from budget_training import ANCHOR_STEPS, RUNS, rows_of, train_missing
from tables import Row, Table, command_line, progress, publish

from ml_playground.planning.scaling import FILE, Law, TextDifficulty, Training, fitted_law, forecast

GUESS = Law(
    floor=0.65,
    size_scale=0.27,
    size_power=0.4,
    data_power=0.35,
    joint_power=4.0,
    context_scale=0.5,
    context_power=0.5,
    critical_tokens=6000.0,
    repeat_worth=4.0,
    repeat_scale=0.03,
    dropout_help=5.0,
    dropout_cost=0.2,
    spread=0.03,
)
LOOSE = {
    "floor": 0.4,
    "size_scale": 0.5,
    "data_power": 0.5,
    "joint_power": 0.3,
    "context_scale": 1.0,
    "critical_tokens": 0.7,
    "repeat_worth": 1.0,
    "repeat_scale": 1.0,
    "dropout_help": 0.5,
    "dropout_cost": 1.0,
}
"""What is fitted, and how far, in logarithms, it may lie from its guess where the runs say little. The powers of size and context
are those of the sources, for the runs span too little."""
NOISE = 0.015
"""Standard deviation of ln(loss) between seeds and orders of batches."""


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


def source_of(row: Mapping[str, Any]) -> str:
    """What was read: a text, or so many tokens of it."""
    return f"{row['text']}, {row['unique']:,} tokens"


def difficulties(rows: Sequence[Mapping[str, Any]]) -> dict[str, TextDifficulty]:
    """What is known of each text: its anchor is the run of `ANCHOR_STEPS` steps."""
    return {
        source_of(row): TextDifficulty(row["counted_loss"], training_of(row), row["loss"])
        for row in rows
        if row["steps"] == ANCHOR_STEPS and (row["layers"], row["width"], row["rows"]) == (3, 128, 24)
    }


def errors(law: Law, rows: Sequence[Mapping[str, Any]], known: Mapping[str, TextDifficulty]) -> np.ndarray:
    """ln(loss / forecast) of each run."""
    return np.array(
        [math.log(row["loss"] / max(0.1, forecast(law, known[source_of(row)], training_of(row)).loss)) for row in rows]
    )


def fitted(rows: Sequence[Mapping[str, Any]], known: Mapping[str, TextDifficulty], rounds: int = 4000) -> Law:
    """The constants of the smallest squared errors, held near their guesses where the runs say little."""
    start = np.zeros(len(LOOSE))

    def law_at(point: np.ndarray) -> Law:
        moved = {name: getattr(GUESS, name) * math.exp(LOOSE[name] * x) for name, x in zip(LOOSE, point, strict=True)}
        return replace(GUESS, **moved)

    def cost(point: np.ndarray) -> float:
        # Beyond 10 % an error counts in a line: runs that learnt a text by heart must not decide about the others.
        size = np.abs(errors(law_at(point), rows, known)) / NOISE
        return float(np.where(size < 6, size**2, 12 * size - 36).sum() + (point**2).sum())

    return law_at(lowest(cost, start, rounds))


def lowest(cost: Callable[[np.ndarray], float], start: np.ndarray, rounds: int) -> np.ndarray:
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
    return row["dropout"] == 0.0 and row["unique"] >= 300_000


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Fit, and say how wrong the law is."""
    if options.train:
        with tempfile.TemporaryDirectory() as home:
            for plan in train_missing(Path(home)):
                progress(f"training {plan}")
    every = rows_of()
    if not every:
        raise SystemExit(
            f"{RUNS.name} holds no run of the recipe in force (planning/recipe.py): make them with --train"
        )
    known = difficulties(every)
    rows = [row for row in every if source_of(row) in known]
    unseen = left_out(rows, known)
    law = replace(
        fitted(rows, known), spread=round(float(np.sqrt(np.mean(np.concatenate(list(unseen.values())) ** 2))), 4)
    )
    law = replace(law, **{name: float(f"{getattr(law, name):.4g}") for name in LOOSE})
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
