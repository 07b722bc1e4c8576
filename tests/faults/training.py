"""A training in this process to which something is done between two of its steps."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder, runs_folder
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.engine import run_job
from ml_playground.training.protocols import JobResult
from ml_playground.training.resume import Choice
from tests.fakes.tiny_job import tiny_job

STEPS = 12
EVALUATE_EVERY_STEPS = 4


def prepared_job(folder: Path, **sections: Any) -> JobConfig:
    """Twelve steps, an evaluation every four, a checkpoint every three, a sample every five."""
    defaults: dict[str, Any] = {
        "train": {
            "max_steps": STEPS,
            "evaluate_every_steps": EVALUATE_EVERY_STEPS,
            "evaluation_batches": 2,
            "log_every_steps": 1,
        },
        "checkpointing": {"every_steps": 3, "keep_last": 2},
        "hooks": {"samples": {"kind": "samples", "every_steps": 5, "max_new_tokens": 4}},
        "runtime": {"flight_check": False},
    }
    for name, section in sections.items():
        defaults[name] = defaults.get(name, {}) | section if isinstance(section, dict) else section
    job = tiny_job(folder, **defaults)
    prepare(job.prepare, Deps())
    return job


def disturbed(
    acts: Mapping[int, Callable[[], object]], deps: Deps | None = None, *, stop_after: int | None = None
) -> Deps:
    """What is done behind each of these steps of a process that begins, counted from 1; its user stops it behind `stop_after`."""
    steps = 0
    evaluating = False

    def stop_requested() -> bool:
        nonlocal steps, evaluating
        if not evaluating:
            steps += 1
            if steps in acts:
                acts[steps]()
        # The two batches of an evaluation are put together, and before it there is a question, too.
        evaluating = not evaluating and steps % EVALUATE_EVERY_STEPS == 0
        return stop_after is not None and steps >= stop_after

    base = deps or Deps()
    return Deps(clock=base.clock, fetch=base.fetch, stop_requested=stop_requested, sleep=base.sleep)


def place_of(job: JobConfig, name: str) -> RunFolder:
    """A run by a name of ours."""
    return RunFolder(runs_folder() / job.name / name)


def train(job: JobConfig, name: str, deps: Deps | None = None) -> JobResult:
    """Begin or go on with a run of this name."""
    return run_job(job, deps or Deps(), Choice("resume", place_of(job, name)))


def kinds_of(run: RunFolder) -> list[str]:
    """What happened, in order."""
    return [json.loads(line)["kind"] for line in run.events.read_text().splitlines()]
