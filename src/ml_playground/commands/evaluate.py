"""`mlp evaluate`: how well a trained model predicts a split."""

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ml_playground.commands.options import Json
from ml_playground.commands.sample import Checkpoint, RecordedSets, Target, Weights, checkpoint_named, heading
from ml_playground.sampling.recorded import sampling_layers

if TYPE_CHECKING:
    from ml_playground.evaluation.loss import Evaluation


def evaluate(
    target: Target,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="val, train or test.")] = "val",
    checkpoint: Checkpoint = "best",
    weights: Weights = None,
    sets: RecordedSets = None,
    json_output: Json = False,
) -> None:
    """Loss, perplexity and bits per byte over a whole split, each token once.

    Beside the model stand a unigram and a bigram model, counted on the training split: what a model must beat to have
    learned more than which tokens are frequent, and which follow each other.
    """
    layers = sampling_layers(sets or (), {"weights": ("--weights", weights)}, os.environ)
    which = checkpoint_named(checkpoint)
    from ml_playground.evaluation.loss import evaluate as evaluate_run  # noqa: PLC0415 - torch takes seconds
    from ml_playground.sampling.runner import load_run  # noqa: PLC0415

    run = load_run(target, which=which, layers=layers)
    typer.echo(heading(run, run.execution.dtype), err=True)
    for note in run.notes:
        typer.echo(f"note: {note}", err=True)
    evaluation = evaluate_run(run, split, progress=show_progress)
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)
    typer.echo(json.dumps(evaluation.as_json()) if json_output else table_of(evaluation))


def show_progress(targets: int) -> None:
    """One line that grows, on a terminal only."""
    if sys.stderr.isatty():
        typer.echo(f"\r{targets:,} tokens", nl=False, err=True)


def table_of(evaluation: "Evaluation") -> str:
    """Model and baselines, one line each."""
    rows = [("model", evaluation.model), *evaluation.baselines.items()]
    head = f"{evaluation.split} split: {evaluation.targets:,} tokens, {evaluation.text_bytes:,} bytes of text"
    lines = [f"{'':<10}{'loss':>10}{'perplexity':>14}{'bits/byte':>12}"]
    lines += [f"{name:<10}{row.loss:>10.4f}{row.perplexity:>14,.2f}{row.bits_per_byte:>12.4f}" for name, row in rows]
    return "\n".join([head, *lines])
