"""`mlp runs`: what was trained, and how far each run has come. Needs no torch."""

import json
import math
from typing import Annotated, Any

import typer

from ml_playground.commands.config import columns
from ml_playground.commands.options import Json
from ml_playground.core.error_handling import RunError
from ml_playground.core.humanise import count, duration, loss_text, printable
from ml_playground.core.registry import did_you_mean
from ml_playground.core.run_folder import all_runs, runs_folder
from ml_playground.core.run_schema import Status
from ml_playground.monitoring.reader import RunSummary, list_runs

HEAD = ("run", "state", "step", "loss", "val loss", "best", "speed", "started (UTC)", "time")


def runs(
    experiment: Annotated[
        str | None, typer.Argument(metavar="[EXPERIMENT]", help="Only the runs of this one.", show_default=False)
    ] = None,
    json_output: Json = False,
) -> None:
    """List the runs, newest first: state, step, losses, speed, when it began and how long it trained.

    Under best stands the best evaluation by what the run's checkpoints are compared by (checkpointing.best_by): the lowest
    validation loss, or another number with its name.
    """
    summaries = list_runs(runs_folder(), experiment)
    if experiment is not None and not summaries:
        raise RunError(_unknown(experiment))
    if json_output:
        typer.echo(json.dumps({"runs": [as_json(summary) for summary in summaries]}, indent=2))
    elif summaries:
        typer.echo(columns([HEAD, *(cells_of(summary) for summary in summaries)]))
        for summary in summaries:
            if summary.problem:
                typer.echo(f"\n{printable(f'{summary.run.id} cannot be read: {summary.problem}')}", err=True)
            elif summary.status is not None and summary.status.note:
                typer.echo(f"\n{printable(f'{summary.run.id} passed over: {summary.status.note}')}", err=True)
    else:
        typer.echo(f"no run under {runs_folder()} yet; start one: mlp train EXPERIMENT")


def cells_of(summary: RunSummary) -> tuple[str, ...]:
    """A line of the table."""
    started = "-" if summary.started is None else f"{summary.started:%Y-%m-%d %H:%M}"
    status, name = summary.status, printable(summary.run.id)
    if status is None:
        return (name, summary.state, *["-"] * 5, started, "-")
    speed = "-" if status.targets_per_s is None else f"{count(status.targets_per_s)} {status.unit}s/s"
    # The last mean was taken over the steps whose loss was a number.
    loss = math.nan if summary.state == "nan" else status.loss
    losses = (loss, status.validation_loss)
    return (
        name,
        _state_of(summary),
        f"{status.step:,}/{status.max_steps:,}",
        *("-" if loss is None else loss_text(loss) for loss in losses),
        _best_of(status),
        speed,
        started,
        duration(status.elapsed_s),
    )


def _best_of(status: Status) -> str:
    """Of what the best checkpoint is chosen by, with its name where it is not the loss."""
    if status.best_metric != "loss":
        return "-" if status.best is None else printable(f"{status.best_metric} {loss_text(status.best)}")
    # Runs of before kept the lowest loss alone.
    lowest = status.best_validation_loss if status.best is None else status.best
    return "-" if lowest is None else loss_text(lowest)


def _state_of(summary: RunSummary) -> str:
    """In words; a run that ended before its last step says best itself why."""
    said = summary.status.message if summary.status is not None and summary.state == "stopped_early" else ""
    return printable(said) or summary.state.replace("_", " ")


def as_json(summary: RunSummary) -> dict[str, Any]:
    """A run for programs: its state, and its own last word as it stands in status.json."""
    return {
        "run": summary.run.id,
        "path": str(summary.run.path),
        "state": summary.state,
        "started": summary.started.isoformat() if summary.started else None,
        "status": summary.status.model_dump(mode="json") if summary.status else None,
        "problem": summary.problem or None,
    }


def _unknown(experiment: str) -> str:
    names = sorted({run.path.parent.name for run in all_runs(runs_folder())})
    there = f"experiments with runs: {', '.join(names)}" if names else "there is no run yet"
    return f"no run of {experiment!r} under {runs_folder()}{did_you_mean(experiment, names)} ({there})."
