"""`mlp train`: go on with a run, or begin one."""

import gc
import shlex
import signal
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from ml_playground.commands.options import ConfigFiles, Experiment, Json, Sets, as_typed, at_lower_rate, naming
from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, DataError, RunError
from ml_playground.core.humanise import json_text
from ml_playground.core.leaving import leave_at_once
from ml_playground.core.run_folder import RunFolder, find_run, runs_folder
from ml_playground.core.run_schema import FINISHED
from ml_playground.core.side_threads import started
from ml_playground.core.standard_error import say_at_once
from ml_playground.data_pipeline.manifest import open_prepared
from ml_playground.data_pipeline.preparer import changed_source
from ml_playground.monitoring.reader import read_status
from ml_playground.training.resume import Choice, choose_run, differences, read_job, short

if TYPE_CHECKING:
    from ml_playground.training.protocols import JobResult

EXHAUSTED = 3
MOST_DIFFERENCES = 3
"""That a note names."""

Fresh = Annotated[bool, typer.Option("--fresh", help="Begin a new run beside the ones there are.")]
Resume = Annotated[
    str | None,
    typer.Option("--resume", metavar="RUN", help="Go on with this run, even with other recorded settings (a branch)."),
]

Check = Annotated[
    bool,
    typer.Option("--check", help="Only try whether the run will go through; say what it needs. Leaves nothing behind."),
]


def train(
    experiment: Experiment,
    sets: Sets = None,
    files: ConfigFiles = None,
    fresh: Fresh = False,
    resume: Resume = None,
    check: Check = False,
    json_output: Json = False,
) -> None:
    """Train; the same command goes on where it stopped. Ctrl-C saves and leaves.

    Before the first step memory and disk are compared with what the run needs, and a step, an evaluation and a text are tried.
    With --check that is all: more steps are timed, a checkpoint is written and read again, and nothing is left behind.
    """
    job = load(experiment, sets=sets or (), files=files or ()).job
    typed = as_typed(experiment, sets, files)
    _check_data(job, typed)
    with naming(typed):
        if check:
            from ml_playground.commands.train_check import check as flight_check  # noqa: PLC0415 - only when asked for

            asked = f" --resume {shlex.quote(resume)}" if resume is not None else " --fresh" if fresh else ""
            flight_check(job, chosen_run(job, fresh=fresh, resume=resume), typed + asked, json_output=json_output)
            return
        result = train_job(job, fresh=fresh, resume=resume)
    if json_output:
        typer.echo(json_text(asdict(result) | {"run": str(result.run)}))
    else:
        typer.echo(summary_of(result, job, f"mlp train {typed}"))
    if (code := exit_code_of(result)) != 0:
        raise typer.Exit(code)


def _check_data(job: JobConfig, typed: str) -> None:
    """Refuse at once what is not prepared, and say when the source has changed since: the run then uses the former text.

    Raises:
        DataError: The data are not prepared.
    """
    if not prepared_folder(job.prepare).is_dir():
        raise DataError(f"The data of {job.name!r} are not prepared; run: mlp prepare {typed}")
    if changed := changed_source(job.prepare, Deps()):
        typer.echo(
            f"note: the source changed since it was prepared ({changed}); training uses the text as it was. "
            f"To train on the new one: mlp prepare {typed} --fresh",
            err=True,
        )


def chosen_run(job: JobConfig, *, fresh: bool, resume: str | None) -> Choice:
    """Which run a start begins or goes on with; says which unfinished or finished one of other settings it leaves behind.

    Raises:
        ConfigError: --fresh and --resume together.
        RunError: There is no such run, or its settings differ.
    """
    if fresh and resume is not None:
        raise ConfigError("--fresh begins a new run and --resume goes on with an old one; give only one of them.")
    named = find_run(resume) if resume is not None else None
    choice = choose_run(job, runs_folder(), fresh=fresh, named=named)
    if choice.passed_over is not None:
        typer.echo(
            f"note: a new run begins; {choice.passed_over.id}, of other settings, ended before its first checkpoint",
            err=True,
        )
    if choice.finished is not None:
        typer.echo(f"note: a new run begins; {_left_finished(choice.finished, job)}", err=True)
    return choice


def _left_finished(run: RunFolder, job: JobConfig) -> str:
    """In what a finished run differs from the job, and how to go on from it where its weights fit."""
    changed = [difference for difference in differences(read_job(run), job) if difference.lock != "free"]
    shown = ", ".join(f"{one.path} {short(one.saved)} -> {short(one.wanted)}" for one in changed[:MOST_DIFFERENCES])
    more = f", and {len(changed) - MOST_DIFFERENCES} more" if len(changed) > MOST_DIFFERENCES else ""
    # What is locked would be refused there.
    go_on = f"; to go on from it: --resume {run.id}" if all(one.lock != "locked" for one in changed) else ""
    return f"{run.id} is finished with other settings ({shown}{more}){go_on}"


def train_job(job: JobConfig, *, fresh: bool = False, resume: str | None = None) -> "JobResult":
    """Choose the run, and train it under handlers that turn Ctrl-C and SIGTERM into a saved pause, once a step is made.

    Raises:
        ConfigError: --fresh and --resume together.
        PlaygroundError: What `run_job` raises.
    """
    with stop_on_signals(nothing_to_save=True) as signals:
        choice: Choice | None = chosen_run(job, fresh=fresh, resume=resume)
        # Hashing leaves the interpreter to the imports: a gigabyte of tokens is compared by the time torch is there.
        comparing = Thread(target=_compare, args=(prepared_folder(job.prepare),), daemon=True)
        compares = started(comparing)
        with collecting_later():
            from ml_playground.training.engine import run_job  # noqa: PLC0415 - torch takes seconds; refusals come first
        if compares:
            comparing.join()
        if not fresh and resume is None:
            # Meanwhile another process may have begun the run that this one would begin: it is chosen again where it is claimed.
            choice = None
        return run_job(job, Deps(stop_requested=signals.requested), choice)


def _compare(folder: Path) -> None:
    """Compare the token files with their hashes, so that opening them need not."""
    # Whoever opens them says what is wrong.
    with suppress(DataError):
        open_prepared(folder)


@contextmanager
def collecting_later() -> Generator[None]:
    """No garbage is collected inside, and what was made there is never looked through again.

    Imports make a million objects and hardly any garbage: looking through them takes a tenth of the time of `import torch`
    (docs/LOG.md), and again each time that a long run collects.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class StopSignals:
    """Remembers the first Ctrl-C or SIGTERM; the second one ends the process at once."""

    def __init__(self, *, nothing_to_save: bool = False) -> None:
        """With `nothing_to_save` also the first one does, until `requested` is called for the first time."""
        self._count = 0
        self._nothing_to_save = nothing_to_save

    def requested(self) -> bool:
        """Whether somebody asked to stop."""
        self._nothing_to_save = False
        return self._count > 0

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The handler.

        Raises:
            KeyboardInterrupt: At the second signal.
        """
        self._count += 1
        if self._nothing_to_save:
            # Should a library swallow the error, the loop still hears of it.
            say_at_once("\nleaving at once: since the start no step was made that could be saved\n")
        if self._nothing_to_save or self._count > 1:
            leave_at_once(number, frame)
        # The signal may have come in the midst of a write, or killed what reads the pipe, which then must not stop the saving.
        say_at_once("\nstopping after this step and saving; once more to leave at once\n")


@contextmanager
def stop_on_signals(*, nothing_to_save: bool = False) -> Generator[StopSignals]:
    """Ctrl-C and SIGTERM are remembered inside, and do what they did before after; see `StopSignals`."""
    signals = StopSignals(nothing_to_save=nothing_to_save)
    former = {number: signal.signal(number, signals.receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def exit_code_of(result: "JobResult") -> int:
    """0 for an end its user or the job wanted; 3 when numbers or memory gave out."""
    return EXHAUSTED if result.reason in ("nan", "out_of_memory") else 0


def metrics_text(metrics: Mapping[str, float]) -> str:
    """`, validation loss 0.0312, accuracy 0.9900`; empty where nothing was measured."""
    named = {name: value for name, value in metrics.items() if name != "loss"}
    loss = f", validation loss {metrics['loss']:.4f}" if "loss" in metrics else ""
    return loss + "".join(f", {name.replace('_', ' ')} {value:.4f}" for name, value in named.items())


def _early_end(run: RunFolder) -> str:
    """What the run itself calls its end before the last step: the clock may have ended it, or a rule."""
    try:
        status = read_status(run)
    except RunError:
        status = None
    return (status.message if status is not None else "") or "stopped early"


def follow_up(job: JobConfig, run: RunFolder) -> str:
    """What to type to see what a trained model does."""
    modality = job.prepare.source.modality
    verb = "evaluate" if modality == "images" or job.data.pairs else "chat" if modality == "chats" else "sample"
    return f"mlp {verb} {run.id}"


def summary_of(result: "JobResult", job: JobConfig, command: str) -> str:
    """How it ended, where it lies, what to type next; `command` is what was typed."""
    run = RunFolder(Path(result.run))
    place = f"step {result.step:,} of {result.max_steps:,}{metrics_text(result.metrics)}"
    if result.nothing_to_do:
        word = _early_end(run) if result.reason == "stopped_early" else result.reason.replace("_", " ")
        head = f"nothing to do: {run.id} is finished ({word}, {place})"
        return f"{head}\nnext: {follow_up(job, run)}   or begin another one: {command} --fresh"
    lines = {
        "completed": f"completed: {place}",
        "stopped_early": f"{_early_end(run)}: {place}",
        "paused": f"paused: {place}; the same command goes on",
        "nan": f"the numbers gave out: {result.message}",
        "out_of_memory": f"out of memory: {result.message}",
    }
    next_line = f"next: {follow_up(job, run)}\n" if result.reason in FINISHED else ""
    if result.reason == "nan":
        next_line = f"next: {at_lower_rate(job, command)}\n"
    return f"{lines[result.reason]}\n{next_line}run:  {run.path}"
