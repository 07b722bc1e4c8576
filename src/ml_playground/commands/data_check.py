"""`mlp data check`: what is wrong with texts and chats before anything is trained on them."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from ml_playground.commands.data_check_text import lines
from ml_playground.commands.options import ConfigFiles, Json, Sets, as_typed
from ml_playground.configuration.families import SOURCES
from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.configuration.loading import CONFIG, experiment_names, load
from ml_playground.configuration.models import JobConfig, PrepareSettings
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.humanise import count
from ml_playground.core.registry import kind_of, load_object
from ml_playground.data_pipeline.chats.building import refusals
from ml_playground.data_pipeline.checks.checking_rows import check_rows
from ml_playground.data_pipeline.checks.checking_texts import check_texts, some_text
from ml_playground.data_pipeline.checks.held_out import SplitWatcher
from ml_playground.data_pipeline.checks.inputs import Input, document_inputs, file_input, named_input
from ml_playground.data_pipeline.checks.marks import RowMarks
from ml_playground.data_pipeline.checks.quarantine import Separated, separate_lines, separate_rows
from ml_playground.data_pipeline.checks.report import Report, as_json
from ml_playground.data_pipeline.checks.row_scan import ANY_ROW, RowReader
from ml_playground.data_pipeline.manifest import MANIFEST_NAME, read_manifest
from ml_playground.data_pipeline.source_protocol import FileSource, Source
from ml_playground.data_pipeline.sources.chat_rows import whole_chat_of
from ml_playground.data_pipeline.sources.preference_rows import preference_of
from ml_playground.data_pipeline.sources.settings import JsonlPreference
from ml_playground.data_pipeline.text_dataset import TextManifest

Kind = Literal["text", "chat"]
ROW_ENDINGS = frozenset({".jsonl", ".ndjson", ".json"})
WITH_ERRORS = 2
CHARACTERS_OF_A_TOKEN = 4.0
"""Of pieces of words in English, where nothing is prepared that could tell."""

Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="EXPERIMENT|FILE...", help="An experiment, or files of text or of rows.", show_default=False
    ),
]
KindOption = Annotated[
    Kind | None,
    typer.Option(
        "--kind",
        metavar="text|chat",
        help="What the files are; as it comes, chat for .jsonl, .ndjson and .json, text for all others.",
        show_default=False,
    ),
]
Val = Annotated[
    list[Path] | None,
    typer.Option(
        "--val", metavar="FILE", help="A file that is for validation; may be repeated. Leaks into it are found."
    ),
]
MaxExamples = Annotated[int, typer.Option("--max-examples", metavar="N", min=0, help="Examples shown of each finding.")]
MaxCharacters = Annotated[
    int | None,
    typer.Option(
        "--max-characters",
        metavar="N",
        min=1,
        help="Longest row that fits; as it comes, what the experiment's sequences hold, or rows that are far longer than the others.",
        show_default=False,
    ),
]
Quarantine = Annotated[
    Path | None,
    typer.Option(
        "--quarantine",
        metavar="FILE",
        help="Write rows with errors or warnings there, with the reasons, as JSON Lines.",
    ),
]
Clean = Annotated[
    Path | None, typer.Option("--clean", metavar="FILE", help="Write all other rows there. Only for chats.")
]


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be checked."""

    kind: Kind
    inputs: Callable[[], Iterator[Input]]
    """Anew for each pass."""
    size_bytes: int
    split: Callable[[], SplitWatcher | None] = lambda: None
    most_characters: int | None = None
    reader: RowReader = ANY_ROW


def check(
    targets: Targets,
    kind: KindOption = None,
    val: Val = None,
    max_examples: MaxExamples = 3,
    max_characters: MaxCharacters = None,
    quarantine: Quarantine = None,
    clean: Clean = None,
    sets: Sets = None,
    files: ConfigFiles = None,
    json_output: Json = False,
) -> int:
    """Find what is wrong with texts and chats: damaged bytes, mojibake, copies, empty and endless rows, turns, leaks.

    Nothing is changed. A row of chats is an object with messages (role and content), with prompt and completion, or with text.
    The exit code is 2 if there are errors, which training cannot or must not use, and 0 if there are only warnings and infos.
    """
    if len(targets) == 1 and not val and _is_experiment(targets[0]):
        job = _of_experiment(load(targets[0], sets=sets or (), files=files or ()).job, kind, max_characters)
    else:
        _refuse_unused(targets, val or [], sets, files)
        job = _of_files([Path(target) for target in targets], val or [], kind, max_characters)
    _check_options(job, quarantine, clean, max_characters)
    progress = shown_progress(job.size_bytes)
    try:
        report, separated = _run(job, max_examples, quarantine, clean, progress)
    finally:
        progress(-1)
    if json_output:
        typer.echo(json.dumps({**as_json(report), "quarantined": separated.bad if separated else None}))
    else:
        typed = _as_typed(targets, kind, val or [], max_characters, as_typed("", sets, files).partition(" ")[2])
        for line in lines(report, typed, separated, quarantine, clean):
            typer.echo(line)
    return WITH_ERRORS if report.count("error") else 0


def _run(
    job: Job, most_examples: int, quarantine: Path | None, clean: Path | None, progress: Callable[[int], None]
) -> tuple[Report, Separated | None]:
    """What was found, and what was written if something was asked for."""
    separated: Separated | None = None
    if job.kind == "text":
        texts = some_text(check_texts(job.inputs(), most_examples=most_examples, split=job.split(), progress=progress))
        if quarantine is not None:
            separated = separate_lines(job.inputs(), texts, quarantine, progress)
        return texts.report, separated
    separating = quarantine is not None or clean is not None
    with RowMarks() as marks:
        rows = check_rows(
            job.inputs(),
            most_examples=most_examples,
            most_characters=job.most_characters,
            marks=marks if separating else None,
            reader=job.reader,
            progress=progress,
        )
        if separating:
            separated = separate_rows(job.inputs(), rows, marks, quarantine, clean, progress)
    return rows.report, separated


def _as_typed(
    targets: Sequence[str], kind: Kind | None, val: Sequence[Path], most_characters: int | None, settings: str
) -> str:
    """The same check, to be typed again."""
    words = [*targets]
    words += ["--kind", kind] if kind is not None else []
    words += [word for path in val for word in ("--val", str(path))]
    words += ["--max-characters", str(most_characters)] if most_characters is not None else []
    return " ".join([shlex.join(words), *([settings] if settings else [])])


def _is_experiment(target: str) -> bool:
    """A known name, a folder with a config.toml, or a word that does not look like a file; a file of that name comes first."""
    path = Path(target)
    if os.path.isfile(path):  # noqa: PTH113 - unlike pathlib's, it does not raise for what no file system takes
        return False
    if target in experiment_names():
        return True
    if os.path.isdir(path):  # noqa: PTH112
        return os.path.isfile(path / CONFIG)  # noqa: PTH113
    return not path.suffix and len(path.parts) == 1


def _refuse_unused(
    targets: Sequence[str], val: Sequence[Path], sets: Sequence[str] | None, files: Sequence[Path] | None
) -> None:
    named = [target for target in targets if target in experiment_names() and _is_experiment(target)]
    if named and val:
        raise ConfigError(f"--val takes FILEs beside FILEs, and {named[0]} is an experiment; leave --val out.")
    if sets or files:
        option = "--set" if sets else "--config"
        raise ConfigError(f"{option} has no effect on files; it changes settings of an experiment. Leave it out.")


def _of_experiment(job: JobConfig, kind: Kind | None, most_characters: int | None) -> Job:
    """The documents of its source, and which of them it keeps for validation."""
    settings = job.prepare
    if settings.source.modality == "images":
        raise ConfigError(
            f"{job.name} has images (source.kind = {settings.source.kind_name!r}), and what is checked here is text; "
            f"mlp prepare {job.name} refuses images that are damaged, and counts copies."
        )
    source: Source = load_object(kind_of(SOURCES, settings.source.kind_name).build)(settings.source, Deps())
    if not isinstance(source, FileSource):
        if settings.source.modality == "chats":
            raise ConfigError(
                f"{job.name} makes its chats itself (source.kind = {settings.source.kind_name!r}), so there is no file to check; "
                f"mlp prepare {job.name} refuses chats that cannot be trained on."
            )
        if kind == "chat":
            raise ConfigError(
                f"--kind chat is for files, and prepare.source.kind = {settings.source.kind_name!r} gives texts; leave it out, or "
                "name the files: mlp data check FILE..."
            )
        return Job("text", lambda: document_inputs(source), 0, lambda: SplitWatcher(settings))
    named = [named_input(file) for file in source.files()]
    size_bytes = sum(one.size_bytes for one in named)
    if kind == "chat" or settings.source.modality == "chats":
        reader = reader_of(settings) if settings.source.modality == "chats" else ANY_ROW
        most = most_characters or characters_that_fit(job)
        return Job("chat", lambda: iter(named), size_bytes, most_characters=most, reader=reader)
    return Job("text", lambda: iter(named), size_bytes, lambda: SplitWatcher(settings))


def reader_of(settings: PrepareSettings) -> RowReader:
    """Rows as preparing them reads them, so that what it would refuse is an error here."""
    chat_of = preference_of if isinstance(settings.source, JsonlPreference) else whole_chat_of
    return RowReader(chat_of, refusals(settings, Deps().clock.now()))


def characters_that_fit(job: JobConfig) -> int | None:
    """How long a row may be to fit into a sequence, by what the tokenizer made of the prepared text, or usually makes."""
    tokens: int | None = getattr(job.data, "sequence_tokens", None)
    if tokens is None or job.prepare.tokenizer is None:
        return None
    characters = 1.0 if job.prepare.tokenizer.kind_name in {"char", "byte"} else CHARACTERS_OF_A_TOKEN
    folder = prepared_folder(job.prepare)
    if (folder / MANIFEST_NAME).is_file():
        manifest = read_manifest(folder)
        if isinstance(manifest, TextManifest):
            split = manifest.ledger.splits["train"]
            characters = split.characters / split.tokens
    return round(tokens * characters)


def _of_files(paths: Sequence[Path], val: Sequence[Path], kind: Kind | None, most_characters: int | None) -> Job:
    inputs = [file_input(path) for path in paths] + [file_input(path, held_out=True) for path in val]
    kinds: set[Kind] = {"chat" if path.suffix.lower() in ROW_ENDINGS else "text" for path in (*paths, *val)}
    if kind is None and len(kinds) > 1:
        raise ConfigError(
            "Some files are rows (.jsonl) and some are texts; check them apart, or say --kind text or chat."
        )
    return Job(
        kind or kinds.pop(),
        lambda: iter(inputs),
        sum(one.size_bytes for one in inputs),
        most_characters=most_characters,
    )


def _check_options(job: Job, quarantine: Path | None, clean: Path | None, most_characters: int | None) -> None:
    """Options without effect, and files that would be overwritten.

    Raises:
        ConfigError: One of them.
    """
    if job.kind == "text" and clean is not None:
        raise ConfigError(
            "--clean needs rows of chats: a text has no rows to leave out. --quarantine lists its bad lines."
        )
    if job.kind == "text" and most_characters is not None:
        raise ConfigError("--max-characters is for rows of chats; lines of a text may have any length.")
    for option, path in (("--quarantine", quarantine), ("--clean", clean)):
        if path is not None and path.exists():
            raise ConfigError(f"{option} {path} is there already, and would be lost; remove it or name another file.")
    if quarantine is not None and clean is not None and quarantine.absolute() == clean.absolute():
        raise ConfigError(f"--quarantine and --clean both name {clean}; give each a file of its own.")


def shown_progress(of_bytes: int) -> Callable[[int], None]:
    """One line that grows, on a terminal only; -1 wipes it."""
    if not sys.stderr.isatty():
        return lambda done: None

    def show(done: int) -> None:
        share = f" ({done / of_bytes:.0%})" if of_bytes else ""
        text = "" if done < 0 else f"checked {count(done)}B{share}"
        typer.echo(f"\r\x1b[K{text}", nl=False, err=True)

    return show
