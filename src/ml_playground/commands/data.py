"""`mlp data`: what became of a text on its way to the model."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ml_playground.commands.ledger_text import ledger_lines
from ml_playground.commands.options import ConfigFiles, Json, Sets, as_typed, complete_experiment
from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.humanise import count, json_text
from ml_playground.data_pipeline.books import Books, open_books
from ml_playground.data_pipeline.manifest import MANIFEST_NAME

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
    """Show where every token of a prepared text goes: into which split, and what an epoch of training does with it.

    Each token of a split is trained (a target of the loss), masked (read, never a target), truncated or dropped; padding lies
    beside them. Below stands what is lost though no setting asks for it, and where: files that are no text, characters the
    tokenizer does not know. `mlp prepare` and `mlp train` refuse where that is more than prepare.max_loss_fraction.
    """
    folder = Path(target)
    job: JobConfig | None = None
    if not (folder / MANIFEST_NAME).is_file():
        job = load(target, sets=sets or (), files=files or ()).job
        folder = prepared_folder(job.prepare)
        if not folder.is_dir():
            typed = as_typed(target, sets, files)
            raise DataError(f"The data of {job.name!r} are not prepared; run: mlp prepare {typed}")
    elif sets or files:
        raise ConfigError(
            f"{target} is a folder of prepared data, so --set and --config have no effect; leave them out."
        )
    books = open_books(folder, job.data if job else None)
    if json_output:
        typer.echo(json_text({"folder": str(folder), **books.as_json()}))
    else:
        typer.echo("\n".join([*_lines(books, job), f"folder:     {folder}"]))


def _lines(books: Books, job: JobConfig | None) -> Iterator[str]:
    """The books, and how far the job's run gets in them."""
    yield from ledger_lines(books, job.name if job else "prepared data", sys.stdout.encoding or "utf-8")
    train = books.epoch.get("train")
    if job is not None and job.train.max_steps is not None and train is not None and train.batches:
        epochs = job.train.max_steps * job.train.micro_batches_per_step / train.batches
        reach = f"{epochs:.3g} epochs" if epochs >= 1 else f"{epochs:.1%} of an epoch: the rest is never reached"
        targets = count(epochs * train.trained)
        yield f"the run:    {job.train.max_steps:,} steps train {targets} tokens, {reach}"
