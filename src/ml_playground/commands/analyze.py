"""`mlp analyze`: what a model has learned, seen in what it writes."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ml_playground.analysis.quality_report import Quality, Settings, lines_to_read, quality_of
from ml_playground.commands.options import Json, complete_experiment
from ml_playground.commands.sample_texts import SEPARATOR
from ml_playground.configuration.families import SPLIT_TEXT
from ml_playground.configuration.fingerprint import existing_data
from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import ConfigError, DataError, RunError
from ml_playground.core.foreign_files import read_at_most
from ml_playground.core.humanise import json_text
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import RunFolder, find_run
from ml_playground.core.run_schema import Row, complaint
from ml_playground.core.storage_errors import storage_errors
from ml_playground.monitoring.report import write_report
from ml_playground.sampling.recorded import job_on_record, recorded_job

MOST_BYTES = 64 << 20
"""Of the texts that are looked at: more than anybody draws."""


class SampledText(Row):
    """A text of a file that `mlp sample` wrote."""

    prompt: str
    text: str


class SampleFile(Row):
    """What is read of such a file."""

    texts: tuple[SampledText, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Texts, and the run that they belong to, if one is known."""

    texts: list[str]
    origin: str
    run: RunFolder | None


def quality(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE",
            help="A run or an experiment (its newest run), whose newest samples are looked at; or a file of texts.",
            autocompletion=complete_experiment,
            show_default=False,
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="RUN", help="Whose training text may be copied; of a run its own."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All samples of the run, not only the newest file.")] = False,
    ngram: Annotated[int, typer.Option("--ngram", min=1, max=20, help="Words of a run whose repetitions count.")] = 3,
    copy_characters: Annotated[
        int,
        typer.Option("--copy-characters", min=10, max=10_000, help="From which length on a stretch counts as copied."),
    ] = 50,
    json_output: Json = False,
) -> None:
    """Look at texts that a model wrote: what they copy, repeat and begin with, and what is odd about them.

    Copies are stretches that stand word for word in the training text; beside them stands how much of as much held-out text
    does, for some stretches stand in every text. Of a run the result is kept in its analysis/ and shown in its report.html.
    """
    drawn = _drawn(target, every=every)
    if drawn.run is not None and against is None:
        against = drawn.run.id
    settings = Settings(ngram, copy_characters)
    training, held_out, notes = (None, None, ["no --against RUN, so copies were not looked for"])
    if against is not None:
        training, held_out, notes = _text_of(find_run(against))
    found = quality_of(drawn.texts, drawn.origin, settings, training=training, held_out=held_out, notes=notes)
    if drawn.run is not None:
        write_file(drawn.run.quality, record_of(found) + "\n")
        write_report(drawn.run)
    if json_output:
        typer.echo(record_of(found))
        return
    typer.echo("\n".join(lines_to_read(found)))
    if drawn.run is not None:
        typer.echo(f"saved: {drawn.run.quality}; shown in {drawn.run.report}", err=True)


def record_of(found: Quality) -> str:
    """One JSON object; `summary` holds the lines that a reader sees."""
    return json_text(_finite(found.as_json()) | {"summary": list(lines_to_read(found))})


def _finite(value: Any) -> Any:
    """The same without NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]  # pyright: ignore[reportUnknownVariableType]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _drawn(target: str, *, every: bool) -> Drawn:
    path = Path(target)
    if path.is_file():
        if every:
            raise ConfigError(f"--all takes all samples of a run, but {target} is a file; leave it out.")
        return Drawn(_checked(list(_texts_in(path)), str(path)), str(path), None)
    run = find_run(target)
    files = sorted((file for file in run.samples.glob("sample_*") if file.suffix in (".txt", ".json")), key=_age)
    if not files:
        job = job_on_record(run.config)
        if job is not None and job.prepare.source.modality == "images":
            raise RunError(
                f"The run {run.id} tells images apart and writes no text; to see how well it does: mlp evaluate {target}"
            )
        raise RunError(f"The run {run.id} has no samples yet; draw some: mlp sample {target} --num-samples 20")
    chosen = files if every else files[-1:]
    origin = chosen[0].name if len(chosen) == 1 else f"{len(chosen)} files of samples"
    return Drawn(_checked([text for file in chosen for text in _texts_in(file)], origin), f"{run.id}, {origin}", run)


def _age(file: Path) -> tuple[int, str]:
    return file.stat().st_mtime_ns, file.name


def _checked(texts: list[str], origin: str) -> list[str]:
    if not any(text.strip() for text in texts):
        raise DataError(f"{origin} holds no text; there is nothing to look at.")
    return texts


def _texts_in(file: Path) -> Iterator[str]:
    """The texts of a file that `mlp sample` wrote, or the whole of another one."""
    with storage_errors(file):
        content = read_at_most(file, MOST_BYTES)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8 (byte {error.start}: {error.reason}); convert it, or name another file."
        ) from None
    if file.suffix != ".json":
        yield from (part.removesuffix("\n") for part in f"{text}\n".split(f"{SEPARATOR}\n"))
        return
    try:
        record = SampleFile.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{file} is no JSON that mlp sample wrote ({complaint(error)}).") from error
    yield from [one.prompt + one.text for one in record.texts]


def _text_of(run: RunFolder) -> tuple[Iterable[str] | None, Callable[[], Iterable[str]] | None, list[str]]:
    """The training text of a run in pieces, its validation text, and what is to be said; without data no text."""
    job = recorded_job(run.config)
    if job.prepare.tokenizer is None:
        raise ConfigError(f"The run {run.id} was trained on images; there is no text to compare with.")
    split_text: Callable[[Path, str], Iterator[str]] = load_object(SPLIT_TEXT)
    try:
        folder = existing_data(job)
        return split_text(folder, "train"), lambda: split_text(folder, "val"), []
    except DataError as error:
        return None, None, [f"copies were not looked for: {error}"]
