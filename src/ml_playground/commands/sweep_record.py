"""`sweep.json`: the trials of a sweep that have come to an end. What is not in it is tried again, or gone on with."""

import hashlib
import json
import math
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import RunError
from ml_playground.core.file_locks import locked_folder
from ml_playground.core.foreign_files import read_at_most
from ml_playground.core.run_folder import home
from ml_playground.core.run_schema import Row, complaint

ANEW = "move it away to begin anew (finished runs are found again)."


class Trial(Row):
    """One trial that has ended."""

    number: int
    """Counted from 1."""
    values: dict[str, Any]
    state: Literal["complete", "failed"]
    score: float | None = None
    """The best of its evaluations."""
    step: int | None = None
    """At which it was measured."""
    steps: int | None = None
    """Of the whole trial."""
    seconds: float | None = None
    run: str | None = None
    reason: str = ""
    """Why it failed."""


class SweepRecord(Row):
    """All that a sweep remembers."""

    schema_version: Literal[1] = 1
    experiment: str
    metric: str
    higher: bool
    plan: dict[str, Any]
    """What is tried, and how."""
    trials: list[Trial] = Field(default_factory=list[Trial])

    @property
    def ranked(self) -> list[Trial]:
        """Best first; failed ones last."""
        complete = [trial for trial in self.trials if trial.score is not None and trial.state == "complete"]
        failed = [trial for trial in self.trials if trial not in complete]
        sign = -1 if self.higher else 1
        return [*sorted(complete, key=lambda trial: sign * (trial.score or 0.0)), *failed]

    @property
    def keys(self) -> list[str]:
        """What varies."""
        return list(self.plan["keys"])

    def with_trial(self, trial: Trial) -> "SweepRecord":
        """One more."""
        return self.model_copy(update={"trials": [*self.trials, trial]})


def sweep_folder(experiment: str, job: Mapping[str, Any], plan: Mapping[str, Any]) -> Path:
    """Where a sweep lies: the same settings and the same plan are the same sweep, which goes on."""
    text = json.dumps([job, plan], sort_keys=True)
    return home() / "sweeps" / f"{experiment}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def read_record(folder: Path, empty: SweepRecord) -> SweepRecord:
    """What the sweep in a folder remembers; `empty` where there is none yet.

    Raises:
        RunError: The file is damaged, or is the record of another sweep.
    """
    file = folder / "sweep.json"
    try:
        record = SweepRecord.model_validate_json(read_at_most(file))
    except FileNotFoundError:
        return empty
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        raise RunError(f"{file} is no record of a sweep: {complaint(error)}; {ANEW}") from None
    if record.model_copy(update={"trials": []}) != empty:
        raise RunError(f"{file} is the record of another sweep; {ANEW}")
    for number, trial in enumerate(record.trials, 1):
        measured = trial.score is not None and math.isfinite(trial.score)
        if trial.number != number or list(trial.values) != empty.keys or measured != (trial.state == "complete"):
            raise RunError(f"{file}: its trial {number} is not what a sweep wrote; {ANEW}")
    return record


def write_record(folder: Path, record: SweepRecord) -> None:
    """Complete or absent, as every file."""
    write_file(folder / "sweep.json", record.model_dump_json(indent=1) + "\n")


@contextmanager
def held(folder: Path) -> Generator[None]:
    """Nobody else runs this sweep meanwhile.

    Raises:
        RunError: Another process does.
    """
    lock = locked_folder(folder)
    if lock is None:
        raise RunError(f"The sweep {folder.name} is being run by another process; wait for it, or end it.")
    try:
        yield
    finally:
        os.close(lock)
