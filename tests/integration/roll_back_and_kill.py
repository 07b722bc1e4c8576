"""Trains a poisoned job once whole, and once killed again and again; started by test_roll_back.

Torch is imported once; each attempt is a forked child. Nothing here runs a torch operation before the last fork.
"""

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.forked import ended, in_child, load_all

from ml_playground.configuration.models import JobConfig
from ml_playground.core.run_folder import RunFolder
from tests.fakes.poisoned import known_kinds
from tests.faults.forking import is_file_operation, trained

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


class KilledAfter:
    """Ends this process some milliseconds of its own work after a moment: whoever watched it from outside might come too late.

    The moment is looked for before each file operation, for files tell of it. The end comes from the system's own timer, between
    any two instructions, and leaves no more time to clean up than SIGKILL does.
    """

    def __init__(self, run: RunFolder, moment: Moment, pause_s: float) -> None:
        self._run, self._moment, self._pause_s = run, moment, pause_s
        self._over = False
        threading.setprofile(self._look)
        sys.setprofile(self._look)

    def _look(self, _frame: FrameType, event: str, function: Any) -> None:
        if not self._over and event == "c_call" and is_file_operation(function) and self._moment(self._run):
            self._over = True
            signal.setitimer(signal.ITIMER_PROF, self._pause_s)


def attempt(job: JobConfig, run: RunFolder, moment: Moment | None = None, pause_s: float = 0.0) -> bool:
    """Train in a child that ends some milliseconds after its moment; whether it ended before the run did."""

    def act() -> None:
        if moment is not None:
            KilledAfter(run, moment, pause_s)
        trained(job, run)

    code = ended(in_child(act))
    if code not in (0, -signal.SIGPROF):
        raise SystemExit(f"an attempt ended with {code}")
    return code != 0


def main(folder: Path) -> None:
    """One whole run, one killed at random moments."""
    os.environ["MLP_HOME"] = str(folder / "home")
    job = JobConfig.model_validate_json((folder / "job.json").read_bytes())
    load_all(job)
    whole, killed = (RunFolder(folder / "home" / "runs" / job.name / name) for name in ("whole", "killed"))
    attempt(job, whole)
    pauses = random.Random(folder.name)
    kills = sum(attempt(job, killed, moment, pauses.uniform(0.001, 0.02)) for moment in MOMENTS)
    attempt(job, killed)
    sys.stdout.write(json.dumps({"whole": str(whole.path), "killed": str(killed.path), "kills": kills}))


if __name__ == "__main__":
    with known_kinds():
        main(Path(sys.argv[1]))
