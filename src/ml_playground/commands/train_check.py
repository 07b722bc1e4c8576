"""`mlp train --check`: everything that a run does, once and before it; nothing is left behind."""

import signal
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from ml_playground.commands.bench import say
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.humanise import count, duration, json_text, parameters_text, plural
from ml_playground.core.leaving import leave_at_once
from ml_playground.core.storage_errors import readable_size
from ml_playground.training.resume import Choice

if TYPE_CHECKING:
    from ml_playground.training.flight_report import FlightReport, Memory

MANY_SECONDS = 10


def check(job: JobConfig, choice: Choice, typed: str, *, json_output: bool) -> None:
    """Check what the same command without --check would train, and show what was found.

    Args:
        job: What would be trained.
        choice: Which run a start would go on with, or begin.
        typed: The words that start the run.
        json_output: One JSON object instead of a table.

    Raises:
        PlaygroundError: What a start would be refused for.
    """
    if choice.action == "nothing_to_do" and choice.run is not None:
        finished = {"nothing_to_do": True, "run": str(choice.run.path)}
        typer.echo(json_text(finished) if json_output else f"nothing to check: {choice.run.id} is finished")
        return
    # Ctrl-C and SIGTERM alike take away the checkpoint that is being tried.
    former = signal.signal(signal.SIGTERM, leave_at_once)
    try:
        report = _checked(job, choice)
    finally:
        signal.signal(signal.SIGTERM, former)
        say("")
    if json_output:
        typer.echo(json_text({"experiment": job.name, "resumes": choice.run and choice.run.id, **asdict(report)}))
        return
    begins = f"the run goes on with {choice.run.id}" if choice.run is not None else "a new run"
    typer.echo(f"{job.name}: {begins}, {plural(report.ahead.steps, 'step')}")
    for name, text in lines(report):
        typer.echo(f"  {name:<12}{text}")
    typer.echo(f"nothing stands in its way\nnext: mlp train {typed}")


def _checked(job: JobConfig, choice: Choice) -> "FlightReport":
    say("loading torch")
    from ml_playground.training.flight import checked_alone  # noqa: PLC0415 - torch takes seconds; refusals come first

    return checked_alone(job, Deps(), choice, say)


def lines(report: "FlightReport") -> Iterator[tuple[str, str]]:
    """Name and text of each line of the table."""
    yield "tried", ", ".join(report.tried) or "nothing"
    yield "parameters", parameters_text(report.parameters, report.trained)
    yield "memory", _memory(report.memory)
    if report.host is not None:
        yield "host memory", _memory(report.host)
    yield "checkpoint", _checkpoint(report)
    yield "disk", _disk(report)
    if report.speed is not None:
        speed = report.speed
        yield "speed", f"{count(speed.targets_per_s)} {report.unit}s/s ({plural(speed.steps, 'step')} timed)"
    if report.time is not None:
        yield "time", _time(report)
    for note in report.notes:
        yield "note", note


def _memory(memory: "Memory | None") -> str:
    if memory is None:
        return "unknown: nothing was tried, and it is not planned for this kind of model"
    there = "" if memory.there_bytes is None else f"; {readable_size(memory.there_bytes)} are there"
    return f"{readable_size(memory.peak_bytes)} at its peak{'' if memory.measured else ', as planned'}{there}"


def _checkpoint(report: "FlightReport") -> str:
    if report.written is None:
        return f"{readable_size(report.disk.checkpoint_bytes)}, as planned"
    written = report.written
    return (
        f"{readable_size(written.size_bytes)}; written in {written.write_s:.2f} s, read in {written.read_s:.2f} s, "
        "the learner restored to the bit"
    )


def _disk(report: "FlightReport") -> str:
    disk = report.disk
    there = f", {readable_size(disk.there_bytes)} of it there" if disk.there_bytes else ""
    return (
        f"{readable_size(disk.more_bytes)} more for the whole run ({plural(disk.at_once, 'checkpoint')} at once at most{there}; metrics "
        f"{readable_size(disk.records_bytes)}); {readable_size(report.free_disk_bytes)} are free"
    )


def _time(report: "FlightReport") -> str:
    time, ahead = report.time, report.ahead
    if time is None or report.speed is None:
        return "unknown"
    evaluation_s = report.speed.evaluation_s
    each = duration(evaluation_s) if evaluation_s > MANY_SECONDS else f"{evaluation_s:.2g} s"
    return (
        f"about {duration(time.likely_s)} ({duration(time.low_s)} to {duration(time.high_s)}), "
        f"with {plural(ahead.evaluations, 'evaluation')} of {each} each and at most {plural(ahead.saves, 'save')}"
    )
