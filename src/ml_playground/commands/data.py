"""`mlp data`: what became of a text, or of images, on its way to the model."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from ml_playground.commands.chat_text import chat_ledger_lines
from ml_playground.commands.image_text import image_ledger_lines
from ml_playground.commands.ledger_text import ledger_lines
from ml_playground.commands.options import ConfigFiles, Json, Sets, as_typed, complete_experiment, named, naming
from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.humanise import count, json_text, plural
from ml_playground.data_pipeline.books import Books, open_books
from ml_playground.data_pipeline.chats.chat_dataset import ChatManifest
from ml_playground.data_pipeline.image_dataset import ImageManifest
from ml_playground.data_pipeline.manifest import MANIFEST_NAME
from ml_playground.data_pipeline.text_dataset import TextManifest

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
    """Show where every token of a prepared text or of chats, or every image, goes: into which split, and what an epoch does with it.

    Each token of a split is trained (a target of the loss), masked (read, never a target), truncated or dropped; padding lies
    beside them. Below stands what is lost though no setting asks for it, and where: files that are no text, characters the
    tokenizer does not know. `mlp prepare` and `mlp train` refuse where that is more than prepare.max_loss_fraction.
    """
    folder, typed = Path(target), as_typed(target, sets, files)
    job: JobConfig | None = None
    if not (folder / MANIFEST_NAME).is_file():
        job = load(target, sets=sets or (), files=files or ()).job
        folder = prepared_folder(job.prepare)
        if not folder.is_dir():
            raise DataError(f"The data of {job.name!r} are not prepared; run: mlp prepare {typed}")
    elif sets or files:
        raise ConfigError(
            f"{target} is a folder of prepared data, so --set and --config have no effect; leave them out."
        )
    with naming(typed) if job else nullcontext():
        books = open_books(folder, job.data if job else None)
    if json_output:
        typer.echo(json_text({"folder": str(folder), **books.as_json()}))
    else:
        text = "\n".join([*_lines(books, job), f"folder:     {folder}"])
        typer.echo(named(text, typed) if job else text)


def _lines(books: Books, job: JobConfig | None) -> Iterator[str]:
    """The books, and how far the job's run gets in them."""
    title, manifest = job.name if job else "prepared data", books.manifest
    if isinstance(manifest, ImageManifest):
        yield from image_ledger_lines(books, manifest, title)
    elif isinstance(manifest, ChatManifest):
        yield from chat_ledger_lines(books, manifest, title, sys.stdout.encoding or "utf-8")
    elif isinstance(manifest, TextManifest):
        yield from ledger_lines(books, manifest.ledger, title, sys.stdout.encoding or "utf-8")
    train = books.epoch.get("train")
    if job is not None and job.train.max_steps is not None and train is not None and train.batches:
        epochs = job.train.max_steps * job.train.micro_batches_per_step / train.batches
        reach = (
            plural(float(f"{epochs:.3g}"), "epoch")
            if epochs >= 1
            else f"{epochs:.1%} of an epoch: the rest is never reached"
        )
        targets = count(epochs * train.trained)
        verb = "trains" if job.train.max_steps == 1 else "train"
        yield f"the run:    {plural(job.train.max_steps, 'step')} {verb} {targets} {books.unit}s, {reach}"
