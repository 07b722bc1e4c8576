"""`mlp evaluate`: how well a trained model predicts a split."""

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ml_playground.commands.options import Json
from ml_playground.commands.sample import Checkpoint, Target, Weights, checkpoint_named, heading
from ml_playground.sampling.recorded import FOR_EVALUATION, sampling_layers

if TYPE_CHECKING:
    from ml_playground.evaluation.loss import Evaluation, Phase

EvaluationSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help=f"Set one of {', '.join(FOR_EVALUATION)}, e.g. --set runtime.device=cpu.",
    ),
]


def evaluate(
    target: Target,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="val, train or test.")] = "val",
    checkpoint: Checkpoint = "best",
    weights: Weights = None,
    sets: EvaluationSets = None,
    json_output: Json = False,
) -> None:
    """Loss, perplexity and bits per byte over a whole split, each token once.

    Beside the model stand a unigram and a bigram model, counted on the training split: what a model must beat to have
    learned more than which tokens are frequent, and which follow each other. There are no bits per byte where the
    tokenizer does not know some of the text.
    """
    layers = sampling_layers(sets or (), {"weights": ("--weights", weights)}, os.environ, FOR_EVALUATION)
    which = checkpoint_named(checkpoint)
    from ml_playground.evaluation.loss import evaluate as evaluate_run  # noqa: PLC0415 - torch takes seconds
    from ml_playground.sampling.runner import load_run  # noqa: PLC0415

    run = load_run(target, which=which, layers=layers, open_keys=FOR_EVALUATION)
    dtype = str(run.execution.dtype).removeprefix("torch.")
    typer.echo(heading(run, f"{run.execution.device.type}, {dtype}"), err=True)
    for note in run.notes:
        typer.echo(f"note: {note}", err=True)
    evaluation = evaluate_run(run, split, progress=show_progress)
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)
    typer.echo(json.dumps(evaluation.as_json()) if json_output else table_of(evaluation))


def show_progress(phase: "Phase", targets: int) -> None:
    """One line that grows, on a terminal only."""
    if sys.stderr.isatty():
        what = "counted for the baselines" if phase == "counting" else "evaluated"
        typer.echo(f"\r\x1b[K{targets:,} tokens {what}", nl=False, err=True)


def table_of(evaluation: "Evaluation") -> str:
    """Model and baselines, one line each."""
    rows = [("model", evaluation.model), *evaluation.baselines.items()]
    head = f"{evaluation.split} split: {evaluation.targets:,} tokens, {evaluation.text_bytes:,} bytes of text"
    lines = [f"{'':<10}{'loss':>10}{'perplexity':>14}{'bits/byte':>12}"]
    for name, row in rows:
        bits_per_byte = "-" if row.bits_per_byte is None else f"{row.bits_per_byte:.4f}"
        lines.append(f"{name:<10}{row.loss:>10.4f}{row.perplexity:>14,.2f}{bits_per_byte:>12}")
    if evaluation.unknown_targets:
        lines.append(
            f"note: {evaluation.unknown_targets:,} of {evaluation.targets:,} targets are unknown to the tokenizer; "
            "bits per byte would not count them"
        )
    return "\n".join([head, *lines])
