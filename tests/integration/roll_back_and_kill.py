"""Trains a poisoned job once whole, and once killed again and again; started by test_roll_back.

Torch is imported once; each attempt is a forked child. Nothing here runs a torch operation before the last fork.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.forked import ended, in_child, load_all

from ml_playground.configuration.models import JobConfig
from ml_playground.core.run_folder import RunFolder
from tests.fakes.poisoned import known_kinds
from tests.faults.forking import KILLED, trained

Moment = Callable[[RunFolder], bool]


def reached(step: int) -> Moment:
    """The numbers of a step are written down."""
    return lambda run: run.metrics.exists() and f'"step":{step},' in run.metrics.read_text()


def undone(times: int) -> Moment:
    """The run has gone back so often: what comes now is building everything anew."""
    return lambda run: run.events.exists() and run.events.read_text().count('"rolled_back"') >= times


def examined(batches: int) -> Moment:
    """The evidence of so many batches is there: the loop begins again."""
    return lambda run: len([*run.path.glob("bad_batches/*.json")]) >= batches


MOMENTS: Sequence[Moment] = (undone(1), examined(1), reached(5), undone(2), examined(2), reached(12))


def attempt(job: JobConfig, run: RunFolder, moment: Moment | None, pause_s: float = 0.0) -> bool:
    """Train in a child that is killed some milliseconds after its moment; whether it was killed before it ended."""
    child = in_child(lambda: trained(job, run))
    while moment is None or not moment(run):
        over, status = os.waitpid(child, os.WNOHANG)
        if over:
            if status:
                raise SystemExit("an attempt failed")
            return False
        time.sleep(0.0005)
    time.sleep(pause_s)
    os.kill(child, signal.SIGKILL)
    return ended(child) == KILLED


def main(folder: Path) -> None:
    """One whole run, one killed at random moments."""
    os.environ["MLP_HOME"] = str(folder / "home")
    job = JobConfig.model_validate_json((folder / "job.json").read_bytes())
    load_all(job)
    whole, killed = (RunFolder(folder / "home" / "runs" / job.name / name) for name in ("whole", "killed"))
    attempt(job, whole, None)
    pauses = random.Random(folder.name)
    kills = sum(attempt(job, killed, moment, pauses.uniform(0, 0.02)) for moment in MOMENTS)
    attempt(job, killed, None)
    sys.stdout.write(json.dumps({"whole": str(whole.path), "killed": str(killed.path), "kills": kills}))


if __name__ == "__main__":
    with known_kinds():
        main(Path(sys.argv[1]))
