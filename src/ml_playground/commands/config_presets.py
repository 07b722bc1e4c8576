"""`mlp config presets`: the groups that `use` may name, each with one line. Needs no torch."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ml_playground.commands.config import columns
from ml_playground.commands.options import Json, complete_experiment
from ml_playground.configuration.documents import read_document
from ml_playground.configuration.loading import find_experiment, find_group, group_names
from ml_playground.configuration.rendering import toml_key, toml_value
from ml_playground.configuration.schema import leaves
from ml_playground.core.humanise import printable

MaybeExperiment = Annotated[
    str | None,
    typer.Argument(
        metavar="[EXPERIMENT]",
        help="With the groups of its own presets/ folder.",
        autocompletion=complete_experiment,
        show_default=False,
    ),
]

LONGEST_SUMMARY = 110
"""Characters of a line."""


def presets(experiment: MaybeExperiment = None, json_output: Json = False) -> None:
    """List the groups: what each is for, and with --json what it sets. `--set use=NAME` lays one under an experiment."""
    folder = find_experiment(experiment) if experiment is not None else None
    files = {name: find_group(name, folder) for name in group_names(folder)}
    if json_output:
        rows = [
            {"name": name, "summary": summary_of(file), "file": str(file), "sets": read_document(file).table}
            for name, file in files.items()
        ]
        typer.echo(json.dumps({"presets": rows}, indent=2))
    else:
        typer.echo(columns([(name, printable(summary_of(file))) for name, file in files.items()]))


def summary_of(file: Path) -> str:
    """The first sentence of the comment at its top; without one, what it sets."""
    words: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# ").strip())
    text = " ".join(words)
    if not text:
        return ", ".join(f"{toml_key(path)} = {toml_value(value)}" for path, value in leaves(read_document(file).table))
    sentence = text.partition(". ")[0]
    # What follows a colon explains; a list of groups needs only their names.
    return (sentence if len(sentence) <= LONGEST_SUMMARY else sentence.partition(": ")[0]).rstrip(".:")
