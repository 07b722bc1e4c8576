"""`mlp experiments`: what can be run. Needs no torch."""

import json
from dataclasses import dataclass
from typing import Any

import typer

from ml_playground.commands.config import columns
from ml_playground.commands.options import Json
from ml_playground.configuration.loading import ExperimentEntry, list_experiments, load_without_files
from ml_playground.core.error_handling import ConfigError


@dataclass(frozen=True, slots=True)
class Row:
    """One experiment in the list."""

    entry: ExperimentEntry
    data: str
    """Source and tokenizer."""
    model: str
    """Kind, layers by width."""
    needs: tuple[str, ...] = ()
    """Keys of files that only its user can name."""
    error: str = ""
    """Why it does not load."""


def experiments(json_output: Json = False) -> None:
    """List the experiments: the shipped ones, and one's own under `experiments/` (or `MLP_HOME/experiments`)."""
    rows = [_row(entry) for entry in list_experiments()]
    if json_output:
        typer.echo(json.dumps({"experiments": [_as_json(row) for row in rows]}, indent=2))
        return
    cells = [
        (row.entry.name, row.data, row.model, ", ".join(row.needs) or ABSENT, row.entry.summary or ABSENT)
        for row in rows
    ]
    typer.echo(columns([("name", "data", "model", "needs a file", "what"), *cells]))
    if needing := next((row for row in rows if row.needs), None):
        options = " ".join(f"--set {key}=FILE" for key in needing.needs)
        typer.echo(f"\nWhat needs a file is told so: mlp run {needing.entry.name} {options}")
    for row in rows:
        if row.error:
            typer.echo(f"\n{row.entry.name} does not load:\n{row.error}")


ABSENT = "-"


def _row(entry: ExperimentEntry) -> Row:
    try:
        # Not the name: the folder itself, whatever else answers to that name.
        loaded, needs = load_without_files(str(entry.path))
    except ConfigError as error:
        return Row(entry, ABSENT, ABSENT, error=str(error))
    job = loaded.job
    model = job.model.model_dump(mode="json")
    size = f" {model['n_layer']} x {model['n_embd']}" if "n_layer" in model else ""
    parts = [job.prepare.source] if job.prepare.tokenizer is None else [job.prepare.source, job.prepare.tokenizer]
    return Row(entry, ", ".join(part.kind_name for part in parts), f"{model['kind']}{size}", needs)


def _as_json(row: Row) -> dict[str, Any]:
    return {
        "name": row.entry.name,
        "what": row.entry.summary,
        "data": row.data,
        "model": row.model,
        "needs": row.needs,
        "path": str(row.entry.path),
        "shipped": row.entry.shipped,
        "error": row.error or None,
    }
