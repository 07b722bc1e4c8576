"""Images through the one engine: exact resume, and the best by accuracy; no line of training/ knows of them."""

import json
from pathlib import Path

import pytest

from ml_playground.configuration.models import JobConfig
from ml_playground.core.checkpoint_format import best, latest, list_complete
from ml_playground.core.deps import Deps
from ml_playground.core.raw_tensors import read_raw_tensors, tensors_sha256
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.engine import run_job
from ml_playground.training.resume import Choice
from tests.fakes.image_files import image_job

VIT = {"kind": "vit", "patch_size": 2, "n_layer": 1, "n_head": 2, "n_embd": 8, "dropout": 0.1}


def end_of(job: JobConfig, run: RunFolder) -> tuple[str, str]:
    """Hash of every tensor of the last checkpoint, and every row of metrics without the clock's."""
    saved = latest(run.checkpoints)
    assert saved is not None
    tensors = {
        f"{group}/{name}": tensor
        for group in saved.groups
        for name, tensor in read_raw_tensors(saved.tensor_file(group)).items()
    }
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return tensors_sha256(tensors), json.dumps([(row["kind"], row["step"], row["values"]) for row in rows])


@pytest.mark.parametrize("model", [{}, {"model": VIT}], ids=["mnist_cnn", "vit"])
def test_run_of_images_that_was_paused_ends_with_the_bits_of_one_that_was_not(
    tmp_path: Path, model: dict[str, object]
) -> None:
    """Images are moved at random, dropout draws: both are functions of seed and place."""
    job = image_job(tmp_path / "files", **model)
    prepare(job.prepare, Deps())
    whole = run_job(job, Deps())
    asked = iter([False] * 12 + [True])
    deps = Deps(stop_requested=lambda: next(asked, False))
    paused = run_job(job, deps, Choice("new"))
    assert (whole.reason, paused.reason) == ("completed", "paused")
    run = RunFolder(paused.run)
    resumed = run_job(job, Deps(), Choice("resume", run))
    assert resumed.reason == "completed"
    assert end_of(job, run) == end_of(job, RunFolder(whole.run))


def test_best_checkpoint_is_that_of_the_highest_accuracy_and_stays(tmp_path: Path) -> None:
    """Whatever the loss says; a new best is saved at once."""
    job = image_job(tmp_path / "files", checkpointing={"every_steps": None, "keep_last": 1, "best_by": "accuracy"})
    prepare(job.prepare, Deps())
    run = RunFolder(run_job(job, Deps()).run)
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    accuracies = {row["step"]: row["values"]["accuracy"] for row in rows if row["kind"] == "evaluation"}
    found = best(run.checkpoints, job.merit)
    assert found is not None
    assert (found.metrics or {})["accuracy"] == max(accuracies.values())
    assert {saved.progress.step for saved in list_complete(run.checkpoints)} == {found.progress.step, 24}


def test_flight_check_of_images_tries_a_step_and_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no text to draw; nothing is planned that nobody knows."""
    job = image_job(tmp_path / "files", hooks={"console": {"kind": "console"}})
    prepare(job.prepare, Deps())
    run_job(job, Deps())
    assert "one training step and an evaluation tried" in capsys.readouterr().err
