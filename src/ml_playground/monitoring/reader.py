"""Reads run folders, of this process or another, without torch: torn last lines and missing files are no surprise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from ml_playground.core.atomic import read_lines
from ml_playground.core.error_handling import RunError
from ml_playground.core.file_locks import is_locked
from ml_playground.core.foreign_files import json_table, parsed_json, read_at_most
from ml_playground.core.run_folder import RunFolder, all_runs
from ml_playground.core.run_schema import SCHEMA_VERSION, Event, MetricRow, Result, Status, complaint

R = TypeVar("R", Status, Result)
L = TypeVar("L", MetricRow, Event)

Table = Mapping[str, Any]
"""An object of JSON."""


@dataclass(slots=True)
class Curve:
    """One number over the steps."""

    steps: list[int] = field(default_factory=list[int])
    values: list[float] = field(default_factory=list[float])


@dataclass(frozen=True, slots=True)
class SampleText:
    """A text that the model wrote."""

    step: int | None
    """None where the file does not say."""
    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in one line."""

    run: RunFolder
    state: str
    """See `state_of`; "unreadable" with a problem."""
    status: Status | None
    started: datetime | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RunView:
    """All that a run folder tells."""

    run: RunFolder
    state: str
    status: Status | None
    result: Result | None
    train: Mapping[str, Curve]
    """loss, grad_norm, lr, targets, and timing: elapsed_s, targets_per_s."""
    evaluation: Mapping[str, Curve]
    """loss and what else the objective measures, and timing."""
    events: Sequence[Event]
    live_samples: Sequence[SampleText]
    """Drawn while training, oldest first."""
    final_samples: Mapping[str, Sequence[SampleText]]
    """Written later, by the name of their file."""
    config: Table
    environment: Table
    unreadable_lines: int
    """Lines that were no rows of their file."""


def read_run(run: RunFolder) -> RunView:
    """Read a whole run folder.

    Raises:
        RunError: A file is damaged or has a schema that this version cannot read; names the file.
    """
    status, result = read_status(run), read_result(run)
    train: dict[str, Curve] = {}
    evaluation: dict[str, Curve] = {}
    rows, bad_rows = _rows(run.metrics, MetricRow)
    for row in rows:
        _add_row(train if row.kind == "train" else evaluation, row)
    events, bad_events = _rows(run.events, Event)
    live, bad_samples = _samples(run.samples / "live.jsonl")
    final: dict[str, Sequence[SampleText]] = {}
    for path in sorted(path for path in run.samples.glob("*") if path.is_file()):
        if path.suffix == ".json":
            record = _json_file(path)
            texts: Any = record.get("texts")
            rows = cast(list[Any], texts) if isinstance(texts, list) else []
            final[path.name] = [sample for row in rows if (sample := _sample(row)) is not None]
        elif path.suffix == ".txt":
            text = (_content(path) or b"").decode(errors="replace")
            final[path.name] = [SampleText(None, "", text)]
    return RunView(
        run=run,
        state=state_of(run, status, result),
        status=status,
        result=result,
        train=train,
        evaluation=evaluation,
        events=events,
        live_samples=live,
        final_samples=final,
        config=read_config(run),
        environment=_json_file(run.environment),
        unreadable_lines=bad_rows + bad_events + bad_samples,
    )


def list_runs(runs: Path, experiment: str | None = None) -> list[RunSummary]:
    """Every run under `runs/`, or those of one experiment, newest first; one that cannot be read does not hide the others."""
    found: list[RunSummary] = []
    for run in all_runs(runs):
        if experiment is not None and run.path.parent.name != experiment:
            continue
        try:
            status, result = read_status(run), read_result(run)
        except RunError as error:
            found.append(RunSummary(run, "unreadable", None, started_at(run), str(error)))
        else:
            found.append(RunSummary(run, state_of(run, status, result), status, started_at(run)))
    return found


def read_status(run: RunFolder) -> Status | None:
    """What the run wrote about itself last; None before its first word.

    Raises:
        RunError: The file is damaged, or its schema is another.
    """
    return _row_file(run.status, Status)


def read_result(run: RunFolder) -> Result | None:
    """How the last process left its loop; None while one trains, and after one that could not say.

    Raises:
        RunError: The file is damaged, or its schema is another.
    """
    return _row_file(run.result, Result)


def read_config(run: RunFolder) -> Table:
    """The recorded job as plain JSON; empty where there is none.

    Raises:
        RunError: The file is damaged.
    """
    return _json_file(run.config)


def state_of(run: RunFolder, status: Status | None, result: Result | None) -> str:
    """What a run is doing, judged by its lock and its own last words.

    Returns:
        While a process holds the run: "starting", "training", "evaluating".
        Else how it ended: a `Reason`, "failed", "interrupted" when it could not say, "not started" before its first word.
    """
    if is_held(run):
        # An ended state is the last word of an earlier process, until the one that holds the lock has its say.
        return "starting" if status is None or status.state in ("ended", "failed") else status.state
    if result is not None:
        return result.reason
    if status is None:
        return "not started"
    # "ended" without a result: killed between the last step and the last word, which a restart makes up for.
    return "failed" if status.state == "failed" else "interrupted"


def is_held(run: RunFolder) -> bool:
    """Whether a process on this machine is training the run."""
    return is_locked(run.lock)


def started_at(run: RunFolder) -> datetime | None:
    """When the run was begun, as its id says; None for an id of another form."""
    try:
        return datetime.strptime(run.path.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _add_row(curves: dict[str, Curve], row: MetricRow) -> None:
    """Append a row's numbers to their curves."""
    for name, value in (*row.values.items(), *row.timing.items()):
        curve = curves.setdefault(name, Curve())
        curve.steps.append(row.step)
        curve.values.append(value)


def _rows(path: Path, kind: type[L]) -> tuple[list[L], int]:
    """The lines that are rows of that kind, and how many are not."""
    rows: list[L] = []
    unreadable = 0
    for line in read_lines(path):
        try:
            rows.append(kind.model_validate_json(line))
        except ValidationError:
            _check_version(_parsed(line), path)
            unreadable += 1
    return rows, unreadable


def _samples(path: Path) -> tuple[list[SampleText], int]:
    found = [_sample(_parsed(line)) for line in read_lines(path)]
    samples = [sample for sample in found if sample is not None]
    return samples, len(found) - len(samples)


def _sample(row: Any) -> SampleText | None:
    """A text from its row; None when it is none."""
    table: Table = cast(Table, row) if isinstance(row, Mapping) else {}
    step, prompt, text = table.get("step"), table.get("prompt", ""), table.get("text")
    if not isinstance(prompt, str) or not isinstance(text, str):
        return None
    return SampleText(step if isinstance(step, int) else None, prompt, text)


def _parsed(line: str) -> Table:
    """An object of JSON; an empty one where the line is none."""
    try:
        return json_table(line)
    except ValueError:
        return {}


def _row_file(path: Path, kind: type[R]) -> R | None:
    content = _content(path)
    if content is None:
        return None
    try:
        _check_version(parsed_json(content), path)
        return kind.model_validate_json(content)
    except ValueError as error:
        raise RunError(
            f"{path} is not what a run writes there: {complaint(error)}; "
            "delete it, the run writes a new one when it goes on"
        ) from error


def _json_file(path: Path) -> Table:
    content = _content(path)
    if content is None:
        return {}
    try:
        table = parsed_json(content)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}; restore it from a copy, or delete it") from error
    return cast(Table, table) if isinstance(table, dict) else {}


def _content(path: Path) -> bytes | None:
    """A small file of a run; None where there is none."""
    try:
        return read_at_most(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}; restore it from a copy, or delete it") from error


def _check_version(table: Any, path: Path) -> None:
    version: Any = (
        cast(Table, table).get("schema_version", SCHEMA_VERSION) if isinstance(table, dict) else SCHEMA_VERSION
    )
    if version != SCHEMA_VERSION:
        raise RunError(
            f"{path} has schema version {version!r}, this program reads version {SCHEMA_VERSION}; "
            "it was written by another version: pip install --upgrade ml-playground"
        )
