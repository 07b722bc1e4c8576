"""`mlp evaluate` of a model that tells images apart: accuracy, confusions, baselines; kept in the run's folder for its report."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ml_playground.commands.ledger_text import right_aligned
from ml_playground.core.atomic import write_file
from ml_playground.core.classification import Classification
from ml_playground.core.humanise import json_text
from ml_playground.monitoring.report_images import percent

if TYPE_CHECKING:
    from ml_playground.configuration.origins import Layer
    from ml_playground.sampling.runner import Which

MOST_CLASSES = 20
"""Of more no table of confusions fits a terminal."""


def evaluate_images(
    target: str | Path, split: str, *, which: "Which", layers: "Sequence[Layer]", json_output: bool, quiet: bool = False
) -> Classification:
    """Evaluate a classifier, show what was found, and keep it as `evaluations/<split>.json` of its run; `quiet` leaves stdout alone.

    Raises:
        PlaygroundError: It cannot be loaded, or its data are not there.
        StorageError: What was found could not be kept.
    """
    from ml_playground.commands.sample import heading  # noqa: PLC0415 - as below
    from ml_playground.evaluation.classification import classification_of  # noqa: PLC0415 - torch takes seconds
    from ml_playground.sampling.classifier import load_classifier  # noqa: PLC0415

    run = load_classifier(target, which=which, layers=layers)
    dtype = str(run.execution.dtype).removeprefix("torch.")
    typer.echo(heading(run, f"{run.execution.device.type}, {dtype}"), err=True)
    for note in run.notes:
        typer.echo(f"note: {note}", err=True)
    found = classification_of(run, split, progress=_show)
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)
    if not quiet:
        typer.echo(json_text(record_of(found)) if json_output else "\n".join(lines_of(found)))
    if run.run is not None:
        place = run.run.evaluations / f"{split}.json"
        write_file(place, found.model_dump_json(indent=1) + "\n")
        typer.echo(f"saved: {place}", err=True)
    return found


def _show(images: int) -> None:
    """One line that grows, on a terminal only."""
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{images:,} images evaluated", nl=False, err=True)


def record_of(found: Classification) -> dict[str, Any]:
    """What a program wants to know, as JSON values: without the pixels of the mistakes, with precision and recall of each class."""
    scores = {
        name: {"recall": recall, "precision": precision}
        for name, recall, precision in zip(found.classes, found.recalls(), found.precisions(), strict=False)
    }
    record = found.model_dump(mode="json")
    record["mistakes"] = [{key: value for key, value in one.items() if key != "pixels"} for one in record["mistakes"]]
    return record | {"per_class": scores}


def lines_of(found: Classification) -> Iterator[str]:
    """Model and baselines, a line for each class, and what is taken for what."""
    yield (
        f"{found.split} split: {found.images:,} images, {percent(found.accuracy)} recognised "
        f"({percent(found.low)} to {percent(found.high)} with 95 % confidence)"
    )
    rows = [("model", found.accuracy, found.loss)]
    rows += [(name, base.accuracy, base.loss) for name, base in found.baselines.items()]
    table = [(name, percent(accuracy), "-" if loss is None else f"{loss:.4f}") for name, accuracy, loss in rows]
    yield from right_aligned([("", "accuracy", "nats/image"), *table])
    if not found.confusion or len(found.classes) > MOST_CLASSES:
        return
    yield ""
    heads = ("is \\ taken for", *found.classes, "recall", "precision")
    counts = [
        (name, *(str(count or ".") for count in row), percent(recall), percent(precision))
        for name, row, recall, precision in zip(
            found.classes, found.confusion, found.recalls(), found.precisions(), strict=True
        )
    ]
    yield from right_aligned([heads, *counts])
