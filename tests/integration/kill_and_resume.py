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
from pathlib import Path

from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.engine import run_job
from ml_playground.training.resume import Choice

# Imported when first needed; here once instead of in each child, which spares 1.5 s of processor time.
for module in ("torch._dynamo", "ml_playground.models.core.gpt", "ml_playground.objectives.next_token"):
    importlib.import_module(module)

KILL_BETWEEN_STEPS = ((1, 12), (13, 24), (25, 36), (37, 48), (60, 60))
"""Each of the first attempts is killed some milliseconds after a random step of its range was written down."""


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
        time.sleep(0.002)
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


def main(folder: Path) -> None:
    """One whole run, one killed at random moments."""
    os.environ["MLP_HOME"] = str(folder / "home")
    job = JobConfig.model_validate_json((folder / "job.json").read_bytes())
    prepare(job.prepare, Deps())
    runs = folder / "home" / "runs" / job.name
    whole, killed = RunFolder(runs / "whole"), RunFolder(runs / "killed")
    attempt(job, whole, lambda: False)
    moments = random.Random(folder.name)
    kills = 0
    for first, last in KILL_BETWEEN_STEPS:
        step, pause_s = moments.randint(first, last), moments.uniform(0, 0.05)
        if not attempt(job, killed, lambda step=step, pause_s=pause_s: reached(killed, step, pause_s)):
            break
        kills += 1
    else:
        attempt(job, killed, lambda: False)
    sys.stdout.write(json.dumps({"whole": str(whole.path), "killed": str(killed.path), "kills": kills}))


main(Path(sys.argv[1]))
