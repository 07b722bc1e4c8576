"""How well a classifier tells the images of a split apart, and what is reached without learning much. B images, K classes."""

import base64
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ml_playground.configuration.fingerprint import existing_data
from ml_playground.core.classification import MOST_CLASSES, Baseline, Classification, Mistake
from ml_playground.data_pipeline.batches import ImageBatch
from ml_playground.data_pipeline.image_dataset import PreparedImages, open_images
from ml_playground.data_pipeline.image_protocol import Pixels
from ml_playground.evaluation.confusion import Ints, confusion_of, wilson_interval
from ml_playground.evaluation.diverged import diverged_on
from ml_playground.evaluation.image_baselines import ImageBaselines
from ml_playground.evaluation.loss import data_of
from ml_playground.sampling.classifier import LoadedClassifier

SHOWN = 25
"""Mistakes that are kept, the worst first: a sheet of five by five."""


def nobody_watches(images: int) -> None:
    """No progress is shown."""


def classification_of(
    run: LoadedClassifier, split: str = "val", *, progress: Callable[[int], None] = nobody_watches
) -> Classification:
    """A loaded classifier over a whole split, each image once, with two baselines beside it.

    Args:
        run: The classifier; it is run in the precision that its job recorded, as in training.
        split: train, val or test.
        progress: Told after each batch how many images are done.

    Raises:
        DataError: The data are not prepared, are not those of the training, or have no such split.
        CheckpointError: The loss is not a number.
    """
    said = _said(run, data_of(cast(Any, run)).split(split), progress)
    if not math.isfinite(said.nats.sum()):
        raise diverged_on(run.checkpoint.reference, split)
    prepared = open_images(existing_data(run.job))
    labels = prepared.labels(split).astype(np.int64)
    right = int((said.classes == labels).sum())
    low, high = wilson_interval(right, len(labels))
    image, names = run.image, run.image.class_names
    counts: list[list[int]] = (
        confusion_of(labels, said.classes, len(names)).tolist() if len(names) <= MOST_CLASSES else []
    )
    return Classification(
        checkpoint=run.checkpoint.reference,
        step=run.checkpoint.progress.step,
        weights=run.weights,
        split=cast(Any, split),
        images=len(labels),
        loss=float(said.nats.mean()),
        accuracy=right / len(labels),
        low=low,
        high=high,
        baselines=_baselines(prepared, split, labels),
        classes=list(names),
        confusion=counts,
        channels=image.channels,
        height=image.height,
        width=image.width,
        mistakes=_mistakes(run, prepared.images(split), labels, said),
    )


class Said(NamedTuple):
    """What a classifier says of n images."""

    nats: NDArray[np.float64]
    """(n,) loss of each."""
    classes: Ints
    """(n,) the likeliest."""
    surety: NDArray[np.float32]
    """(n,) the probability of that class."""


def _said(run: LoadedClassifier, batches: Iterable[Any], progress: Callable[[int], None]) -> Said:
    nats: list[Tensor] = []
    guesses: list[Tensor] = []
    surety: list[Tensor] = []
    done = 0
    device, dtype = run.execution.device, run.execution.dtype
    for batch in cast(Iterable[ImageBatch], batches):
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32):
            there = batch.to(device)
            shares = functional.log_softmax(run.model(there.images).float(), dim=1)
        most, guess = shares.max(dim=1)
        nats.append(-shares.gather(1, there.labels[:, None])[:, 0].cpu())
        guesses.append(guess.cpu())
        surety.append(most.exp().cpu())
        done += batch.rows
        progress(done)
    return Said(torch.cat(nats).double().numpy(), torch.cat(guesses).numpy(), torch.cat(surety).numpy())


def _baselines(data: PreparedImages, split: str, labels: Ints) -> dict[str, Baseline]:
    known = ImageBaselines.fit(data)
    nearest = known.nearest(data, split)
    return {
        "commonest class": Baseline(accuracy=float((labels == known.commonest).mean()), loss=known.nats(labels)),
        "nearest mean": Baseline(accuracy=float((labels == nearest).mean()), loss=None),
    }


def _mistakes(run: LoadedClassifier, pixels: Pixels, labels: Ints, said: Said) -> list[Mistake]:
    """The images that were not recognised, those with the highest loss first."""
    wrong = np.flatnonzero(labels != said.classes)
    names = run.image.class_names
    worst: list[int] = wrong[np.argsort(-said.nats[wrong], kind="stable")][:SHOWN].tolist()
    return [
        Mistake(
            number=number,
            name=names[int(labels[number])],
            predicted=names[int(said.classes[number])],
            probability=min(1.0, float(said.surety[number])),
            nats=float(said.nats[number]),
            pixels=base64.b64encode(pixels[number].tobytes()).decode(),
        )
        for number in worst
    ]
