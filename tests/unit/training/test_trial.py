"""A short training that leaves nothing behind."""

from pathlib import Path

import pytest

from ml_playground.core.deps import Deps, SystemClock
from ml_playground.core.run_folder import runs_folder
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.trial import LEAST_STEPS, factor, fits_in_memory, trial
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.tiny_job import tiny_job


def test_trial_learns_measures_and_writes_nothing(tmp_path: Path) -> None:
    """The loss falls far below that of knowing nothing; no run appears."""
    job = tiny_job(tmp_path)
    prepare(job.prepare, Deps())
    measured = trial(job, SystemClock(), steps=60, seconds=60.0, evaluate_tokens=200, draw=True)
    assert measured.steps == 60
    assert measured.loss < 2.5
    assert min(measured.step_s, measured.evaluation_s, measured.drawing_s, measured.building_s) > 0
    assert not runs_folder().exists()


def test_trial_equal_jobs_reach_equal_losses(tmp_path: Path) -> None:
    """What is planned from it does not depend on chance."""
    job = tiny_job(tmp_path)
    prepare(job.prepare, Deps())
    first, second = (trial(job, SystemClock(), steps=20, seconds=60.0, evaluate_tokens=64) for _ in range(2))
    assert first.loss == second.loss
    assert first.drawing_s == 0


@pytest.mark.parametrize("seconds", [0.0, 10.0, 1e9])
def test_trial_makes_as_many_steps_as_there_is_time_for(tmp_path: Path, seconds: float) -> None:
    """On a clock that goes on by a second at each look: fewer steps than asked for, but never too few."""
    job = tiny_job(tmp_path)
    prepare(job.prepare, Deps())
    measured = trial(job, FixedClock(step_s=1.0), steps=200, seconds=seconds, evaluate_tokens=64)
    assert LEAST_STEPS <= measured.steps <= 200
    assert (measured.steps == LEAST_STEPS) == (seconds == 0.0)
    assert (measured.steps == 200) == (seconds == 1e9)


def test_factor_goes_up_stays_and_comes_down() -> None:
    """The last step is made at nearly nothing."""
    factors = [factor(step, 100) for step in range(100)]
    assert factors[0] == 1 / 16
    assert factors[15:41] == [1.0] * 26
    assert factors[-1] == pytest.approx(1 / 60)


def test_fits_in_memory_a_small_job_does_and_a_share_of_nothing_never(tmp_path: Path) -> None:
    """The plan is held against what is free on the device."""
    job = tiny_job(tmp_path)
    facts = {"vocab_size": 65, "sequence_tokens": 16}
    assert fits_in_memory(job, facts, share=0.6)
    assert not fits_in_memory(job, facts, share=0.0)
