"""Trains a job once whole, and once killed again and again; started by test_exact_resume.

Torch is imported once; each attempt is a forked child, so that a kill costs milliseconds. Nothing here runs a torch
operation before the last fork: threads would not survive it.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.engine import run_job
from ml_playground.training.resume import Choice

CERTAIN_KILLS = 3
"""Attempts that are always killed; later ones are left alone after twice the time of the whole run."""


def attempt(job: JobConfig, run: RunFolder, kill_after_s: float) -> bool:
    """Train in a child; whether it was killed before it ended."""
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
    deadline = time.monotonic() + kill_after_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if status:
                raise SystemExit("an attempt failed")
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def main(folder: Path) -> None:
    """One whole run, one killed at random moments."""
    os.environ["MLP_HOME"] = str(folder / "home")
    job = JobConfig.model_validate_json((folder / "job.json").read_bytes())
    prepare(job.prepare, Deps())
    runs = folder / "home" / "runs" / job.name
    whole, killed = RunFolder(runs / "whole"), RunFolder(runs / "killed")
    began = time.monotonic()
    attempt(job, whole, kill_after_s=150)
    whole_s = time.monotonic() - began
    moments = random.Random(folder.name)
    kills = 0
    while True:
        limit_s = moments.uniform(0.2, 0.8) * whole_s if kills < CERTAIN_KILLS + 2 else 2 * whole_s + 20
        if not attempt(job, killed, limit_s):
            break
        kills += 1
    sys.stdout.write(json.dumps({"whole": str(whole.path), "killed": str(killed.path), "kills": kills}))


main(Path(sys.argv[1]))
