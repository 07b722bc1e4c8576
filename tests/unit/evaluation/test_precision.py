"""What a lower precision costs: measured on the same targets as the model itself."""

import shutil
from pathlib import Path

import pytest

from ml_playground.core.error_handling import DataError
from ml_playground.core.run_folder import data_folder
from ml_playground.evaluation.loss import evaluate
from ml_playground.evaluation.precision import cost_of_precision
from ml_playground.sampling.runner import load_run
from tests.fakes.trained_run import job_of, save_run


def test_cost_of_precision_of_float32_is_none(tmp_path: Path) -> None:
    """Model and decoder agree, over all targets of a split shorter than what is asked for, each once."""
    save_run(job_of(tmp_path), {5: 2.0})
    run = load_run("bottles")
    cost = cost_of_precision(run, run.decoder(), targets=10**9)
    whole = evaluate(run)
    assert cost.targets == whole.targets
    assert cost.full_loss == pytest.approx(whole.model.loss, rel=1e-5)
    assert cost.loss == pytest.approx(cost.full_loss, rel=1e-5)


def test_cost_of_precision_of_other_weights_is_their_loss(tmp_path: Path) -> None:
    """The second loss is that of what draws, not of the model again."""
    save_run(job_of(tmp_path), {5: 2.0, 10: 3.0})
    run, other = load_run("bottles", which=5), load_run("bottles", which=10)
    cost = cost_of_precision(run, other.decoder(), targets=10**9)
    assert cost.loss == pytest.approx(evaluate(other).model.loss, rel=1e-5)
    assert abs(cost.loss - cost.full_loss) > 0.01


def test_cost_of_precision_stops_when_it_has_read_enough(tmp_path: Path) -> None:
    """A window at a time."""
    save_run(job_of(tmp_path), {5: 2.0})
    run = load_run("bottles")
    assert 17 <= cost_of_precision(run, run.decoder(), targets=17).targets <= 32


def test_cost_of_precision_without_the_data_raises(tmp_path: Path) -> None:
    """A checkpoint can be sampled where its data are not; what it costs there is not guessed."""
    save_run(job_of(tmp_path), {5: 2.0})
    run = load_run("bottles")
    shutil.rmtree(data_folder())
    with pytest.raises(DataError):
        cost_of_precision(run, run.decoder())
