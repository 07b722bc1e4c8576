"""The short form of a job in which a resume is verified."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.loading import experiment_names
from ml_playground.configuration.models import JobConfig
from ml_playground.training.resume import differences
from ml_playground.training.verification import METRICS, promise_of, verification_job
from tests.fakes.shipped_jobs import shipped_job
from tests.fakes.tiny_job import tiny_job

COUNTS = st.integers(1, 200)
MAY_DIFFER = {
    "train.max_steps",
    "train.max_epochs",
    "train.evaluate_every_steps",
    "train.evaluation_batches",
    "checkpointing.every_steps",
    "checkpointing.every_minutes",
    "schedule.warmup_steps",
    "hooks.samples.every_steps",
}


@pytest.mark.parametrize("name", experiment_names())
@given(steps=COUNTS, more=COUNTS)
def test_verification_job_of_any_experiment_changes_nothing_but_length_and_intervals(
    name: str, steps: int, more: int
) -> None:
    """What is verified is the user's own model, data, optimizer, precision and hooks."""
    own = shipped_job(name)
    job = verification_job(own, steps=steps, more=more)
    assert {found.path for found in differences(own, job)} <= MAY_DIFFER


@given(steps=COUNTS, more=COUNTS)
def test_verification_job_saves_at_the_step_and_evaluates_on_both_sides(tmp_path: Path, steps: int, more: int) -> None:
    """A kill after the checkpoint repeats steps, an evaluation and a sample, or it would show little."""
    job = verification_job(tiny_job(tmp_path, train={"evaluate_every_steps": 500}), steps=steps, more=more)
    every = job.train.evaluate_every_steps
    assert job.train.max_steps == steps + more
    assert job.checkpointing.every_steps == steps
    assert 1 <= every <= max(1, min(steps, more) // 2)
    assert getattr(job.schedule, "warmup_steps") <= every  # noqa: B009
    assert verification_job(job, steps=steps, more=more) == job


@given(every=st.integers(1, 3), batches=st.integers(1, 3))
def test_verification_job_keeps_shorter_intervals_of_its_user(tmp_path: Path, every: int, batches: int) -> None:
    """Whoever evaluates at each step verifies that."""
    own = tiny_job(tmp_path, train={"evaluate_every_steps": every, "evaluation_batches": batches})
    train = verification_job(own, steps=10, more=10).train
    assert (train.evaluate_every_steps, train.evaluation_batches) == (every, batches)


def with_hooks(folder: Path, hooks: dict[str, Any]) -> JobConfig:
    """A job verified with these hooks, and no others."""
    job = tiny_job(folder)
    table = job.model_dump(mode="json") | {"hooks": hooks}
    return verification_job(JobConfig.model_validate(table, strict=False), steps=4, more=4)


def test_verification_job_switches_off_what_goes_by_the_clock(tmp_path: Path) -> None:
    """A learning rate that follows the time is another one in each run."""
    hooks = with_hooks(tmp_path, {"budget": {"kind": "time_budget"}, "stop": {"kind": "early_stopping"}}).hooks
    assert hooks["budget"].model_dump()["enabled"] is False
    assert hooks["stop"].model_dump()["enabled"] is True


@pytest.mark.parametrize("hooks", [{}, {"metrics": {"kind": "jsonl_metrics", "enabled": False}}])
def test_verification_job_without_metrics_gets_some(tmp_path: Path, hooks: dict[str, Any]) -> None:
    """Losses that nobody writes cannot be compared."""
    assert METRICS in with_hooks(tmp_path, hooks).hooks
    assert METRICS not in with_hooks(tmp_path, {"m": {"kind": "jsonl_metrics"}}).hooks


def test_verification_job_counted_in_epochs_is_counted_in_steps(tmp_path: Path) -> None:
    """One of both is set."""
    own = tiny_job(tmp_path, train={"max_steps": None, "max_epochs": 3.0})
    train = verification_job(own, steps=4, more=5).train
    assert (train.max_steps, train.max_epochs) == (9, None)


@pytest.mark.parametrize(
    ("runtime", "promise"),
    [
        ({"device": "cpu"}, "equal bits on a processor of this kind, with equal threads and versions"),
        ({"device": "cuda", "deterministic": True}, "equal bits on a GPU of this kind, with equal versions"),
        (
            {"device": "cuda"},
            "nothing on CUDA without runtime.deterministic: its sums may come out in another order each time",
        ),
        ({"device": "mps"}, "nothing on MPS: its sums may come out in another order each time"),
    ],
)
def test_promise_depends_on_the_device(tmp_path: Path, runtime: dict[str, Any], promise: str) -> None:
    """Nothing is promised that a device cannot keep."""
    assert promise_of(tiny_job(tmp_path, runtime=runtime)) == promise


@pytest.mark.parametrize("module", ["training.verification", "monitoring.comparison", "commands.verify_resume"])
def test_module_of_the_verification_needs_no_torch(module: str) -> None:
    """The processes that it starts have torch; the one that watches them starts at once."""
    code = f"import sys, ml_playground.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
