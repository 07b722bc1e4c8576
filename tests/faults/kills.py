"""Kills a run, a preparation and a status write before each of their file operations; prints what was found afterwards.

Run as `python -m tests.faults.kills FOLDER EVERY`: before every `EVERY`-th operation.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.forked import load_all

from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.core.run_folder import RunFolder, data_folder, runs_folder
from ml_playground.core.run_schema import Status
from ml_playground.data_pipeline.manifest import open_prepared
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.monitoring.reader import read_status
from ml_playground.training.hooks.status import StatusHook
from ml_playground.training.settings import StatusFile
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.hooks import event, hook_context
from tests.fakes.tiny_job import tiny_job
from tests.faults.forking import (
    KILLED,
    emptied,
    faults_after_a_kill,
    faults_of_a_resumed,
    operations_of,
    trained,
)

Report = dict[str, Any]


def killed_before_each(
    operations: int, every: int, act: Callable[[int], Callable[[], object]], check: Callable[[int], list[str]]
) -> Report:
    """Let a child die before every `every`-th operation of an action; look at what it leaves."""
    faults: list[str] = []
    kills = 0
    for number in range(every // 2, operations, every):
        code, _ = operations_of(act(number), die_before=number)
        kills += code == KILLED
        if code not in (KILLED, 0):
            faults.append(f"before operation {number}: it ended with {code}")
        faults += [f"before operation {number}: {fault}" for fault in check(number)]
    return {"operations": operations, "kills": kills, "faults": faults}


def kill_runs(job: JobConfig, every: int) -> Report:
    """A whole run: its start, its steps, an evaluation, saves that rotate, samples, its end; each time the next start goes on."""
    prepare(job.prepare, Deps())
    place = runs_folder() / job.name
    whole = RunFolder(place / "whole")
    code, operations = operations_of(partial(trained, job, whole))
    if code:
        raise SystemExit("the run that was left alone failed")

    def check(number: int) -> list[str]:
        run = RunFolder(place / f"killed-{number}")
        found = faults_after_a_kill(run)
        again, _ = operations_of(partial(trained, job, run))
        found += [f"the next start ended with {again}"] if again else faults_of_a_resumed(run, whole)
        shutil.rmtree(run.path)
        return found

    return killed_before_each(
        operations, every, lambda number: partial(trained, job, RunFolder(place / f"killed-{number}")), check
    )


def kill_preparations(job: JobConfig, every: int, home: Path, *, fresh: bool) -> Report:
    """A preparation, or one that takes the place of an older one: the next one is whole, and nothing else stays."""
    os.environ["MLP_HOME"] = str(emptied(home / "whole"))
    expected = prepare(job.prepare, Deps()).fingerprint
    _, operations = operations_of(partial(prepare, job.prepare, Deps(), fresh=fresh))
    if not fresh:
        os.environ["MLP_HOME"] = str(emptied(home / "counted"))
        _, operations = operations_of(partial(prepare, job.prepare, Deps()))

    def act(number: int) -> Callable[[], object]:
        os.environ["MLP_HOME"] = str(emptied(home / str(number)))
        if fresh:
            prepare(job.prepare, Deps())
        return partial(prepare, job.prepare, Deps(), fresh=fresh)

    def check(number: int) -> list[str]:
        found = [f"{path.name} is no whole data set" for path in visible_folders() if not is_whole(path)]
        again = prepare(job.prepare, Deps())
        if again.fingerprint != expected:
            found.append("the next preparation gives another data set")
        left = [path.name for path in data_folder().iterdir() if path.name.endswith(".partial")]
        if left:
            found.append(f"the next preparation leaves {left}")
        shutil.rmtree(home / str(number))
        return found

    return killed_before_each(operations, every, act, check)


def visible_folders() -> list[Path]:
    """Data sets as `mlp` would find them."""
    there = data_folder()
    return [path for path in there.iterdir() if path.name[0] != "." and path.is_dir()] if there.is_dir() else []


def is_whole(path: Path) -> bool:
    """Whether a data set can be opened."""
    try:
        open_prepared(path)
    except DataError:
        return False
    return True


def kill_status_writes(folder: Path) -> Report:
    """A status that takes the place of another: a reader finds one or the other."""
    context = hook_context(folder, clock=FixedClock(step_s=2.0))
    hook = StatusHook(StatusFile(), context)
    hook.on_step(event(1, [2.0]))
    _, operations = operations_of(partial(hook.on_step, event(20, [2.0])))

    def check(_number: int) -> list[str]:
        status: Status | None = read_status(context.run)
        if status is None or status.step not in (1, 20):
            return [f"the status is {status}"]
        hook.on_step(event(1, [2.0]))
        left = [path.name for path in context.run.path.glob(".*.partial")]
        return [f"the next status leaves {left}"] if left else []

    return killed_before_each(operations, 1, lambda _: partial(hook.on_step, event(20, [2.0])), check)


def main(folder: Path, every: int) -> None:
    """Everything, as one JSON object."""
    os.environ["MLP_HOME"] = str(folder / "home")
    job = tiny_job(
        folder,
        train={
            "max_steps": 5,
            "evaluate_every_steps": 2,
            "evaluation_batches": 2,
            "log_every_steps": 1,
        },
        checkpointing={"every_steps": 2, "keep_last": 1, "keep_best": 1},
        hooks={"samples": {"kind": "samples", "every_steps": 3, "max_new_tokens": 4}},
        runtime={"flight_check": False},
    )
    load_all(job)
    report = {
        "run": kill_runs(job, every),
        "prepare": kill_preparations(job, 1 + every // 8, folder / "prepare", fresh=False),
        "prepare --fresh": kill_preparations(job, 1 + every // 8, folder / "fresh", fresh=True),
        "status": kill_status_writes(folder / "status"),
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
