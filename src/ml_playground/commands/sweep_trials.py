"""One trial of a sweep: a run of its own, trained by a child process `mlp train`."""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import typer

from ml_playground.commands.prepare import prepare_job
from ml_playground.commands.sweep_record import Trial
from ml_playground.commands.sweep_space import Values, sets_of
from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import PlaygroundError, RunError
from ml_playground.core.file_locks import is_locked
from ml_playground.core.run_folder import RunFolder, all_runs, runs_folder
from ml_playground.monitoring.reader import read_run
from ml_playground.training.resume import differences, read_job

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Child:
    """How a `mlp train` ended."""

    code: int
    out: str
    errors: str


class Stopped(Exception):  # noqa: N818 - no error: its user asked for it
    """The trial was left before its end; the same command goes on with it."""


@dataclass(frozen=True, slots=True)
class Trials:
    """Makes the trials of one sweep."""

    arguments: Sequence[str]
    """Experiment, --config and --set, as they were typed."""
    load_job: Callable[[Sequence[str]], JobConfig]
    folder: Path
    deps: Deps

    def make(self, number: int, values: Values) -> Trial:
        """Train until it has ended, and measure it; what goes wrong with it alone is its result.

        Raises:
            Stopped: Ctrl-C, SIGTERM, or a pause by `mlp control`.
        """
        if self.deps.stop_requested():
            raise Stopped
        sets = sets_of(values)
        try:
            job = self.load_job(sets)
            if not prepared_folder(job.prepare).is_dir():
                prepare_job(job, deps=self.deps)
            begun = self._begun(job)
        except PlaygroundError as error:
            return Trial(number=number, values=dict(values), state="failed", reason=str(error))
        if self.deps.stop_requested():
            raise Stopped  # while its data were prepared
        how = ["--fresh"] if begun is None else ["--resume", begun.id]
        typed = [word for text in sets for word in ("--set", text)]
        child = self._train([*self.arguments, *typed, *how, "--json"], self.folder / f"trial_{number:04d}.log")
        return self._measured(number, values, job, child)

    def _begun(self, job: JobConfig) -> RunFolder | None:
        """The newest run of just these settings; one that a dead sweep's child still trains is waited for.

        Raises:
            Stopped: Asked to, while waiting.
        """
        for run in all_runs(runs_folder()):
            if run.path.parent.name != job.name:
                continue
            try:
                changed = [found for found in differences(read_job(run), job) if found.lock != "free"]
            except RunError:
                continue
            if not changed:
                if is_locked(run.lock):
                    typer.echo(f"  {run.id} is still being trained, by another process: waiting for it", err=True)
                while is_locked(run.lock):
                    if self.deps.stop_requested():
                        raise Stopped
                    self.deps.sleep(POLL_S)
                return run
        return None

    def _train(self, arguments: Sequence[str], log: Path) -> Child:
        """In a session of its own, so that Ctrl-C reaches it once, through us."""
        command = [sys.executable, "-m", "ml_playground.cli", "train", *arguments]
        answer = log.with_suffix(".json")
        with log.open("ab") as errors, answer.open("wb") as out:
            begin = errors.tell()
            child = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True
            )
            try:
                asked = False
                while child.poll() is None:
                    if self.deps.stop_requested() and not asked:
                        child.send_signal(signal.SIGINT)
                        asked = True
                    self.deps.sleep(POLL_S)
            finally:
                child.kill()
                code = child.wait()
        text = log.read_bytes()[begin:].decode(errors="replace")
        return Child(code, answer.read_text(encoding="utf-8"), text)

    def _measured(self, number: int, values: Values, job: JobConfig, child: Child) -> Trial:
        result = _json(child.out)
        # One that was asked to stop before it had a result has not failed, whatever its code: Python, before it reads a line of ours,
        # answers Ctrl-C with 1.
        if result.get("reason") == "paused" or (self.deps.stop_requested() and not result):
            raise Stopped
        found: dict[str, Any] = {"number": number, "values": dict(values)}
        if child.code != 0 or "run" not in result:
            return Trial(
                **found, state="failed", reason=_reason(child, result), run=_id(result), steps=result.get("step")
            )
        run = RunFolder(Path(result["run"]))
        view = read_run(run)
        curve = view.evaluation.get(job.merit.metric)
        measured = (
            [pair for pair in zip(curve.values, curve.steps, strict=True) if math.isfinite(pair[0])] if curve else []
        )
        found |= {"run": run.id, "steps": result["step"], "seconds": view.status.elapsed_s if view.status else None}
        if not measured:
            return Trial(**found, state="failed", reason=f"no evaluation measured {job.merit.metric}")
        score, step = max(measured) if job.merit.higher else min(measured)
        return Trial(**found, state="complete", score=score, step=step)


def _json(text: str) -> dict[str, Any]:
    try:
        # Before it may stand what a plugin printed.
        value = json.loads(text.strip().rpartition("\n")[2])
    except ValueError:
        return {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _id(result: dict[str, Any]) -> str | None:
    return RunFolder(Path(result["run"])).id if "run" in result else None


def _reason(child: Child, result: dict[str, Any]) -> str:
    """In one line: what the run says of itself, else the last error, else how the process ended."""
    if result.get("message"):
        return " ".join(str(result["message"]).split())
    errors = child.errors.partition("error: ")[2]
    if errors:
        return " ".join(errors.split())
    return f"ended by {signal.Signals(-child.code).name}" if child.code < 0 else f"ended with exit code {child.code}"
