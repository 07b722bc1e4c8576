"""`mlp evaluate` over pairs of answers: how many are told apart, and how well."""

import json
import sys
from typing import TYPE_CHECKING

import typer

from ml_playground.core.humanise import loss_text, plural

if TYPE_CHECKING:
    from ml_playground.evaluation.intervals import Estimate
    from ml_playground.evaluation.preferences import PairEvaluation
    from ml_playground.sampling.runner import LoadedRun


def show_pairs(run: "LoadedRun", split: str, *, json_output: bool) -> None:
    """Evaluate a model over pairs, and print what was found.

    Raises:
        PlaygroundError: Its data are not there, or it has diverged.
    """
    from ml_playground.evaluation.preferences import evaluate_pairs  # noqa: PLC0415 - torch takes seconds

    found = evaluate_pairs(run, split, progress=_show)
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)
    typer.echo(json.dumps(found.as_json()) if json_output else "\n".join(lines_of(found)))


def lines_of(found: "PairEvaluation") -> list[str]:
    """Model and reference, one line each."""
    return [
        f"{found.split} split: {plural(found.pairs, 'pair')} of a better and a worse answer",
        f"{'':<10}{'loss':>10}{'told apart':>14}{'95 % interval':>20}{'margin':>10}",
        f"{'model':<10}{loss_text(found.loss):>10}{_share(found.accuracy)}{found.margin:>10.3f}",
        f"{'reference':<10}{'':>10}{_share(found.reference_accuracy)}",
    ]


def _share(of: "Estimate") -> str:
    interval = f"{100 * of.low:.1f} to {100 * of.high:.1f} %"
    return f"{100 * of.value:>12.1f} %{interval:>20}"


def _show(pairs: int) -> None:
    """One line that grows, on a terminal only."""
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{plural(pairs, 'pair')} evaluated", nl=False, err=True)
