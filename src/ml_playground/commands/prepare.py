"""`mlp prepare`: from a source to what is trained on: token files, of chats with weights, or arrays of images."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ml_playground.commands.chat_text import chat_facts_of, chat_lines
from ml_playground.commands.image_text import image_facts_of, image_lines
from ml_playground.commands.ledger_text import copies_text, lost_text, offered_lines, right_aligned
from ml_playground.commands.options import ConfigFiles, Experiment, Json, Sets, as_typed, named, naming
from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.humanise import json_text, plural
from ml_playground.core.values import Fates
from ml_playground.data_pipeline.books import open_books
from ml_playground.data_pipeline.building import MOST_WORKERS
from ml_playground.data_pipeline.chats.chat_dataset import PreparedChats
from ml_playground.data_pipeline.image_dataset import PreparedImages
from ml_playground.data_pipeline.manifest import Prepared
from ml_playground.data_pipeline.preparer import prepare as prepare_data
from ml_playground.data_pipeline.progress import Phase, PrepareProgress, Report
from ml_playground.data_pipeline.text_dataset import TextManifest, as_text

Fresh = Annotated[
    bool, typer.Option("--fresh", help="Prepare anew even if it is there; the old data set is kept beside the new one.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Processes that learn and encode byte pairs or words; the result is the same for every number. "
        f"As it comes: one for each core, at most {MOST_WORKERS}; for texts under 32 MB this one alone.",
        show_default=False,
    ),
]

WORDS: dict[Phase, str] = {
    "waiting": "waiting for another process that prepares the same",
    "fetching": "looking at the source",
    "reading": "reading the text",
    "learning": "learning the vocabulary",
    "encoding": "turning text into tokens",
    "counting": "counting the images",
    "storing": "writing the images",
    "checking": "checking",
}


def prepare(
    experiment: Experiment,
    sets: Sets = None,
    files: ConfigFiles = None,
    fresh: Fresh = False,
    workers: Workers = None,
    json_output: Json = False,
) -> None:
    """Turn a source of text or chats into token files, or one of images into arrays, or check that those on disk still belong to it."""
    job = load(experiment, sets=sets or (), files=files or ()).job
    typed = as_typed(experiment, sets, files)
    with naming(typed):
        prepared = prepare_job(job, fresh=fresh, workers=workers)
    typer.echo(json_text(facts_of(prepared, job)) if json_output else named(summary_of(prepared, job, typed), typed))


def prepare_job(
    job: JobConfig, *, fresh: bool = False, workers: int | None = None, deps: Deps | None = None
) -> Prepared:
    """Prepare the data of a job, its progress shown on stderr.

    Raises:
        PlaygroundError: What preparing raises.
    """
    with shown_progress(Console(stderr=True)) as report:
        return prepare_data(job.prepare, deps or Deps(), fresh=fresh, workers=workers, report=report)


@contextmanager
def shown_progress(console: Console) -> Generator[Report]:
    """A bar on a terminal; elsewhere one plain line for each phase."""
    if not console.is_terminal:
        yield PlainProgress(console).report
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield BarProgress(progress).report


class PlainProgress:
    """Names each phase once."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase: Phase | None = None

    def report(self, progress: PrepareProgress) -> None:
        """A line when the phase is a new one."""
        if progress.phase != self._phase:
            self._phase = progress.phase
            self._console.print(f"prepare: {WORDS[progress.phase]}", markup=False, highlight=False)


class BarProgress:
    """One bar for each phase; it pulses where the end is not known."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[Phase, TaskID] = {}

    def report(self, progress: PrepareProgress) -> None:
        """Move the phase's bar, and finish the one before."""
        if progress.phase not in self._tasks:
            for task in self._tasks.values():
                self._progress.update(task, visible=False)
            self._tasks[progress.phase] = self._progress.add_task(WORDS[progress.phase], total=None)
        self._progress.update(
            self._tasks[progress.phase], completed=progress.characters, total=progress.of_characters, visible=True
        )


def facts_of(prepared: Prepared, job: JobConfig) -> dict[str, Any]:
    """What a program wants to know, as JSON values."""
    books = open_books(prepared.folder, job.data).as_json()
    common = {
        "folder": str(prepared.folder),
        "fingerprint": prepared.fingerprint,
        "reused": prepared.reused,
        "set_aside": None if prepared.set_aside is None else str(prepared.set_aside),
        "epoch": books["epoch"],
    }
    if isinstance(prepared, PreparedImages):
        return common | image_facts_of(prepared.manifest)
    if isinstance(prepared, PreparedChats):
        return common | chat_facts_of(prepared.manifest, books)
    manifest = as_text(prepared).manifest
    return common | {
        "tokenizer": manifest.tokenizer.kind,
        "vocab_size": manifest.vocab_size,
        "files_used": manifest.ledger.files_used,
        "files_skipped": dict(manifest.ledger.files_skipped),
        "splits": {
            name: counts.model_dump(mode="json") | {"tokens": counts.tokens}
            for name, counts in manifest.ledger.splits.items()
        },
        "lost_fraction": books["lost_fraction"],
        "lost_bytes": books["lost_bytes"],
        "dropped": books["ledger"]["dropped"],
        "losses": books["ledger"]["losses"],
    }


def summary_of(prepared: Prepared, job: JobConfig, typed: str) -> str:
    """What a person wants to know: a row for each split, what is lost, where it lies, what to type next."""
    epoch = open_books(prepared.folder, job.data).epoch
    state = "already prepared, and its source is unchanged" if prepared.reused else "prepared"
    lines = [f"{job.name}: {state}"]
    if isinstance(prepared, PreparedImages):
        lines += image_lines(prepared.manifest, epoch)
    elif isinstance(prepared, PreparedChats):
        lines += chat_lines(prepared.manifest, epoch, typed)
    else:
        lines += _text_lines(as_text(prepared).manifest, epoch, typed)
    if prepared.set_aside is not None:
        lines.append(f"old data:   {prepared.set_aside}")
    return "\n".join([*lines, f"folder:     {prepared.folder}", f"next:       mlp train {typed}"])


def _text_lines(manifest: TextManifest, epoch: Mapping[str, Fates], typed: str) -> list[str]:
    """A row for each split of a text, and what is lost."""
    ledger = manifest.ledger
    heads = ("", "tokens", "trained an epoch", "documents", "characters", "bytes/token", "unknown")
    rows = [
        (
            split,
            f"{counts.tokens:,}",
            f"{epoch[split].trained:,}" if split in epoch else "not said",
            f"{counts.documents:,}",
            f"{counts.characters:,}",
            f"{counts.bytes / counts.tokens:.2f}",
            f"{counts.unknown_tokens:,}",
        )
        for split, counts in ledger.splits.items()
    ]
    lines = [*right_aligned([heads, *rows]), f"vocabulary: {manifest.vocab_size:,} ({manifest.tokenizer.kind})"]
    if skipped := ledger.files_skipped:
        reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in skipped.items())
        lines.append(f"skipped:    {sum(skipped.values()):,} of {plural(ledger.files_found, 'file')} ({reasons})")
    more = f"; where: mlp data ledger {typed}" if ledger.lost_bytes() else ""
    lines.append(f"lost:       {lost_text(ledger)}{more}")
    if copies := copies_text(ledger):
        lines.append(f"copies:     {copies}")
    return [*lines, *offered_lines(ledger)]
