"""The job that `mlp verify-resume` runs: an experiment's own, cut so short that it can be trained twice. Free of torch."""

import json
from typing import Any

from ml_playground.configuration.base import Component, HookSettings
from ml_playground.configuration.models import JobConfig
from ml_playground.training.settings import Schedule

MOST_BATCHES = 4
"""Validation batches of an evaluation at most: what an evaluation computes is compared, not how well it estimates."""
METRICS = "verified_metrics"
"""Name of the hook that is added to a job that writes no metrics."""


def verification_job(job: JobConfig, *, steps: int, more: int) -> JobConfig:
    """The job over `steps` + `more` steps, saved after `steps` of them, with evaluations, samples and a warm-up on both sides.

    What the clock decides is switched off: no two runs would be equal. All else stays as the experiment has it.
    """
    every_steps = max(1, min(steps, more) // 2)
    table = job.model_dump(mode="json")
    train = job.train
    table["train"] |= {
        "max_steps": steps + more,
        "max_epochs": None,
        "evaluate_every_steps": min(train.evaluate_every_steps, every_steps),
        "evaluation_batches": min(train.evaluation_batches or MOST_BATCHES, MOST_BATCHES),
    }
    table["checkpointing"] |= {"every_steps": steps, "every_minutes": None}
    if isinstance(job.schedule, Schedule):
        table["schedule"]["warmup_steps"] = min(job.schedule.warmup(job.train.max_steps or steps + more), every_steps)
    hooks = {name: _verified(hook, every_steps) for name, hook in job.hooks.items()}
    if not any(hook["kind"] == "jsonl_metrics" and hook["enabled"] for hook in hooks.values()):
        hooks[METRICS] = {"kind": "jsonl_metrics"}
    return JobConfig.model_validate_json(json.dumps(table | {"hooks": hooks}))


def _verified(hook: Component, every_steps: int) -> dict[str, Any]:
    table = hook.model_dump(mode="json")
    if isinstance(hook, HookSettings) and hook.goes_by_the_clock:
        return table | {"enabled": False}
    return table | ({"every_steps": min(table["every_steps"], every_steps)} if "every_steps" in table else {})


def promise_of(job: JobConfig) -> str:
    """What is promised of a resumed run on the device of a resolved job."""
    runtime = job.runtime
    if runtime.device == "cpu":
        return "equal bits on a processor of this kind, with equal threads and versions"
    if runtime.device == "mps":
        return "nothing on MPS: its sums may come out in another order each time"
    if runtime.deterministic:
        return "equal bits on a GPU of this kind, with equal versions"
    return "nothing on CUDA without runtime.deterministic: its sums may come out in another order each time"
