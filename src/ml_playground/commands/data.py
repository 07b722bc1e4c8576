"""`mlp data`: what became of a text on its way to the model."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ml_playground.commands.options import ConfigFiles, Json, Sets, complete_experiment
from ml_playground.configuration.fingerprint import existing_data
from ml_playground.configuration.loading import load
from ml_playground.data_pipeline.manifest import MANIFEST_NAME, read_manifest

Target = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT|FOLDER",
        help="An experiment whose data are prepared, or a folder of prepared data.",
        autocompletion=complete_experiment,
        show_default=False,
    ),
]


def ledger(target: Target, sets: Sets = None, files: ConfigFiles = None, json_output: Json = False) -> None:
    """Show where every token of a prepared text goes."""
    folder = Path(target)
    if not (folder / MANIFEST_NAME).is_file():
        folder = existing_data(load(target, sets=sets or (), files=files or ()).job)
    books = read_manifest(folder).ledger
    if json_output:
        typer.echo(json.dumps({"folder": str(folder), "ledger": books.model_dump(mode="json")}))
        return
    for name, counts in books.splits.items():
        typer.echo(f"{name}: {counts.tokens:,} tokens of {counts.characters:,} characters")
