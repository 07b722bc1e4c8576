"""`mlp config import`: a configuration of another system as one of ours, with a word on every key. Needs no torch."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from ml_playground.commands.options import Json, Sets
from ml_playground.configuration.loading import CONFIG, NAME, experiment_names, find_experiment
from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.humanise import json_text
from ml_playground.core.run_folder import home
from ml_playground.importing.formats import import_file
from ml_playground.importing.report import as_json, as_text, as_toml

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="nanoGPT's .py, TRAINING's .json, Craft's .yaml, or the older ml_playground's .toml.",
        show_default=False,
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="NAME", help="Write experiments/NAME/config.toml; without it, print.", show_default=False
    ),
]


def import_config(file: File, to: To = None, sets: Sets = None, json_output: Json = False) -> None:
    """Turn a configuration of another system into one of ours. Nothing in the file is run.

    The TOML goes to stdout, or with --to into a new experiment; on stderr stands which key was changed and why, and what
    has no counterpart here. Relative paths in the file count from its folder. --set is laid over what is imported.
    """
    place = _new_experiment(to) if to is not None else None
    imported = import_file(Path(os.path.expanduser(file)), sets or ())  # noqa: PTH111 - raises for nobody
    text = as_toml(imported)
    if place is not None:
        write_file(place, text)
    if json_output:
        typer.echo(json_text(as_json(imported) | {"written": None if place is None else str(place)}))
        return
    typer.echo(as_text(imported), err=True)
    if place is None:
        typer.echo(err=True)
        typer.echo(text, nl=False)
    else:
        typer.echo(
            f"written: {place}\nnext:    mlp config check {shlex.quote(str(to))}; mlp run {shlex.quote(str(to))}"
        )


def _new_experiment(name: str) -> Path:
    """Where the new experiment's config.toml will lie.

    Raises:
        ConfigError: It is no name, or there is such an experiment.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"--to {name!r} is no name of an experiment: letters, digits, `_`, `-` and `.`, at most 64, beginning with a "
            "letter or digit"
        )
    place = home() / "experiments" / name / CONFIG
    if os.path.lexists(place):
        raise ConfigError(f"--to {name}: {place} is there already, and nothing is written over it; choose another name")
    if name in experiment_names():
        raise ConfigError(f"--to {name}: would hide the experiment {find_experiment(name)}; choose another name")
    return place
