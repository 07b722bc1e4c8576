"""From a run's name to a model that tells images apart: everything is read from one checkpoint, verified, and nothing guessed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import Layer
from ml_playground.core import checkpoint_format
from ml_playground.core.checkpoint_format import CheckpointFolder
from ml_playground.core.checkpoint_manifest import MANIFEST
from ml_playground.core.error_handling import CheckpointError, RunError
from ml_playground.core.image_facts import FOLDER, ImageFacts, read_image_facts
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.torch_tensors import read_tensors
from ml_playground.sampling.building import build_model, load_weights, refuse_larger_model
from ml_playground.sampling.execution import Execution, choose_execution
from ml_playground.sampling.recorded import FOR_EVALUATION, job_on_record, recorded_job
from ml_playground.sampling.runner import Which, chosen_weights, find_checkpoint, run_meant


@dataclass(frozen=True, slots=True)
class LoadedClassifier:
    """A trained classifier, ready to be run."""

    model: Any
    """A `Classifier` in evaluation mode, its weights in float32 on `execution.device`."""
    image: ImageFacts
    """What it was trained on."""
    job: JobConfig
    """As recorded, with what was laid over it."""
    checkpoint: CheckpointFolder
    run: RunFolder | None
    weights: Literal["raw", "ema"]
    execution: Execution
    notes: Sequence[str]
    """What its user should know: what was passed over, or replaced."""


def is_classifier(target: str) -> bool:
    """Whether the job that a target recorded tells images apart; what is no run, or cannot be read, is left to whoever loads it."""
    path = Path(os.path.expanduser(target))  # noqa: PTH111 - unlike pathlib's, it raises for no text
    if any(os.path.isfile(path / name) for name in (MANIFEST, checkpoint_format.PROGRESS)):  # noqa: PTH113
        job = job_on_record(path / checkpoint_format.CONFIG)
    else:
        try:
            job = job_on_record(run_meant(target).config)
        except RunError:
            return False
    return job is not None and job.prepare.source.modality == "images"


def load_classifier(target: str | Path, *, which: Which = "best", layers: Sequence[Layer] = ()) -> LoadedClassifier:
    """The classifier of a run or of a checkpoint.

    Args:
        target: A run's folder or id, an experiment (its newest run), or a checkpoint's folder.
        which: Which of a run's checkpoints; a checkpoint that is named itself is taken as it is.
        layers: Laid over the recorded job; they may set what has an effect on an evaluation.

    Raises:
        RunError: No such run, or it has no checkpoint yet.
        CheckpointError: No whole checkpoint, no such step, or its parts do not fit together.
        ConfigError: The recorded job or a layer cannot be read.
        DataError: What it says of its images cannot be read.
    """
    found = find_checkpoint(target, which)
    checkpoint = found.checkpoint
    job = recorded_job(checkpoint.path / checkpoint_format.CONFIG, layers, FOR_EVALUATION)
    folder = checkpoint.path / FOLDER
    if not folder.is_dir():
        raise CheckpointError(
            f"{checkpoint.reference} does not say what its images are, so nobody can say what its classes mean; "
            "restore it from a copy."
        )
    image = read_image_facts(folder)
    if isinstance(job.runtime.threads, int):
        torch.set_num_threads(job.runtime.threads)
    execution = choose_execution(job.runtime)
    weights = chosen_weights(checkpoint, job.sample.weights)
    tensors = read_tensors(checkpoint.tensor_file("model"))
    refuse_larger_model(job, image, tensors, checkpoint.reference)
    model = build_model(job, image, execution.attention)
    if weights == "ema":
        tensors |= read_tensors(checkpoint.tensor_file("ema"))
    load_weights(model, tensors, checkpoint.reference)
    model.requires_grad_(requires_grad=False)
    return LoadedClassifier(
        model=model.to(execution.device).eval(),
        image=image,
        job=job,
        checkpoint=checkpoint,
        run=found.run,
        weights=weights,
        execution=execution,
        notes=[*found.notes, *execution.notes],
    )
