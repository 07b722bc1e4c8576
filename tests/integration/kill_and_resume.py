"""Trains a job once whole, and once killed again and again; started by test_exact_resume.

Torch is imported once; each attempt is a forked child, so that a kill costs milliseconds. Nothing here runs a torch
operation before the last fork: threads would not survive it.
"""

import importlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.engine import run_job
from ml_playground.training.resume import Choice

KILL_BETWEEN_STEPS = ((1, 12), (13, 24), (25, 36), (37, 48), (60, 60))
"""The first attempts are killed at a random step of these ranges: in turn while a checkpoint is being written beside the training,
and some milliseconds after the step was written down."""


def attempt(job: JobConfig, run: RunFolder, moment: Callable[[], bool]) -> bool:
    """Train in a child, killed when its moment has come; whether it was killed before it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run_job(job, Deps(), Choice("resume", run))
            code = 0
        finally:
            # The child must not go on into the parent's loop, whatever happened.
            sys.stderr.write("".join(traceback.format_exception(sys.exc_info()[1])) if code else "")
            os._exit(code)
    while not moment():
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if status:
                raise SystemExit("an attempt failed")
            return False
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def reached(run: RunFolder, step: int, pause_s: float) -> bool:
    """Whether the run has written down a step, and a moment has passed since."""
    lines = run.metrics.read_text().splitlines() if run.metrics.exists() else []
    if not any(f'"step":{number},' in line for line in lines for number in range(step, step + 12)):
        return False
    time.sleep(pause_s)
    return True


def half_written(run: RunFolder) -> set[tuple[int, int]]:
    """What tells apart the checkpoints that are being written, or were when their writer was killed."""
    found: set[tuple[int, int]] = set()
    for place in run.checkpoints.glob(".step_*.partial/new"):
        with suppress(FileNotFoundError):
            found.add((place.stat().st_ino, place.stat().st_mtime_ns))
    return found


def moment_of_a_save(run: RunFolder, step: int, left: set[tuple[int, int]]) -> bool:
    """Whether a step was reached and a checkpoint is being written that was not `left` by an earlier kill."""
    return reached(run, step, 0) and bool(half_written(run) - left)


def load_all(job: JobConfig) -> None:
    """Import here what each child would import when it first needs it: 1.5 s of processor time, and another program where a
    source is edited between two attempts.
    """
    importlib.import_module("torch._dynamo")
    rows = [
        families.DATA[job.data.kind_name],
        families.MODELS[job.model.kind_name],
        families.OBJECTIVES[job.objective.kind_name],
        families.OPTIMIZERS[job.optimizer.kind_name],
        families.SCHEDULES[job.schedule.kind_name],
        families.PREVIEWS[job.objective.kind_name],
        *(families.HOOKS[hook.kind_name] for hook in job.hooks.values()),
    ]
    for path in (families.COSTS[job.model.kind_name], *(row.build for row in rows)):
        load_object(path)


def main(folder: Path) -> None:
    """One whole run, one killed at random moments."""
    os.environ["MLP_HOME"] = str(folder / "home")
    job = JobConfig.model_validate_json((folder / "job.json").read_bytes())
    prepare(job.prepare, Deps())
    load_all(job)
    runs = folder / "home" / "runs" / job.name
    whole, killed = RunFolder(runs / "whole"), RunFolder(runs / "killed")
    attempt(job, whole, lambda: False)
    moments = random.Random(folder.name)
    kills = kills_in_a_save = 0
    for number, (first, last) in enumerate(KILL_BETWEEN_STEPS):
        step, pause_s = moments.randint(first, last), moments.uniform(0, 0.05)
        left = half_written(killed)
        moment = (
            partial(moment_of_a_save, killed, step, left)
            if number % 2 == 0
            else partial(reached, killed, step, pause_s)
        )
        if not attempt(job, killed, moment):
            break
        kills += 1
        kills_in_a_save += bool(half_written(killed) - left)
    else:
        attempt(job, killed, lambda: False)
    told = {"whole": str(whole.path), "killed": str(killed.path), "kills": kills, "kills_in_a_save": kills_in_a_save}
    sys.stdout.write(json.dumps(told))


main(Path(sys.argv[1]))
