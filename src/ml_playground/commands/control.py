"""`mlp control`: ask something of a run that trains in another process."""

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from pydantic import ValidationError

from ml_playground.commands.options import Run
from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import ConfigError, RunError
from ml_playground.core.registry import did_you_mean
from ml_playground.core.run_folder import RunFolder, find_run
from ml_playground.core.run_schema import FINISHED, ControlRequest
from ml_playground.monitoring.reader import is_held, read_config, read_result, read_status, state_of

EFFECTS: dict[str, str] = {
    "pause": "saves and leaves; mlp train goes on from there",
    "stop": "saves and leaves for good",
    "save": "saves",
    "evaluate": "evaluates",
    "sample": "draws a sample",
    "lr": "multiplies its scheduled learning rate by the factor",
}


def control(
    run: Run,
    wanted: Annotated[
        str,
        typer.Argument(metavar="|".join(EFFECTS), help="What the run shall do at its next step.", show_default=False),
    ],
    factor: Annotated[
        float | None,
        typer.Option("--factor", help="With lr: times the scheduled learning rate; above 0, at most 10."),
    ] = None,
) -> None:
    """Ask a run that is training to pause, stop, save, evaluate, sample, or change its learning rate."""
    request = request_of(wanted, factor)
    folder = find_run(run)
    ask(folder, request)
    typer.echo(f"asked {folder.id}: at its next step it {EFFECTS[wanted]}")


def request_of(wanted: str, factor: float | None) -> ControlRequest:
    """The request that a command line means.

    Raises:
        ConfigError: No such request; or a factor is missing, out of range, or given where it means nothing.
    """
    if wanted not in EFFECTS:
        allowed = ", ".join(EFFECTS)
        raise ConfigError(f"a run cannot be asked to {wanted!r}{did_you_mean(wanted, EFFECTS)} (allowed: {allowed}).")
    if wanted == "lr" and factor is None:
        raise ConfigError("lr needs a factor on the scheduled learning rate, e.g. --factor 0.5.")
    if wanted != "lr" and factor is not None:
        raise ConfigError(f"--factor {factor:g} means nothing with {wanted}; it goes with lr.")
    action = "set_lr_factor" if wanted == "lr" else wanted
    try:
        return ControlRequest.model_validate_json(json.dumps({"action": action, "lr_factor": factor}))
    except ValidationError as error:
        raise ConfigError(f"--factor {factor:g} is out of range: it must be above 0 and at most 10.") from error


def ask(run: RunFolder, request: ControlRequest) -> Path:
    """Put a request where the run's next look finds it; complete or absent.

    Raises:
        RunError: No process is training the run, or it takes no requests.
        StorageError: The request cannot be written.
    """
    if not is_held(run):
        state = state_of(run, read_status(run), read_result(run))
        more = "" if state in FINISHED else f" To go on with it: mlp train {run.path.parent.name}"
        raise RunError(
            f"{run.id} is not running ({state.replace('_', ' ')}), so nobody would do it; mlp runs shows what is.{more}"
        )
    if not takes_requests(run):
        raise RunError(
            f"{run.id} has no hook of kind 'control', so it takes no requests; Ctrl-C in its terminal saves and leaves."
        )
    # Requests are obeyed in the order of their names: by time, and two of one microsecond side by side.
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(2)}.json"
    write_file(run.control / name, request.model_dump_json())
    return run.control / name


def takes_requests(run: RunFolder) -> bool:
    """Whether the recorded job has a control hook that is on."""
    hooks: Any = read_config(run).get("hooks")
    tables: list[Any] = list(cast(dict[str, Any], hooks).values()) if isinstance(hooks, dict) else []
    found = [cast(dict[str, Any], hook) for hook in tables if isinstance(hook, dict)]
    return any(hook.get("kind") == "control" and hook.get("enabled", True) is True for hook in found)
