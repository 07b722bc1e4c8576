"""How well a classifier does, against counting by hand on the same images."""

import base64
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.configuration.models import JobConfig
from ml_playground.core.classification import Classification
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import CheckpointError, DataError
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.image_dataset import PreparedImages, open_images
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.evaluation.classification import classification_of
from ml_playground.evaluation.image_baselines import ImageBaselines
from ml_playground.sampling.classifier import LoadedClassifier, is_classifier, load_classifier
from ml_playground.training.engine import run_job
from tests.fakes.image_files import drawn, image_job, prepared_images
from tests.fuzzing.sealing import seal


def trained(folder: Path, ema_decay: float = 0.0) -> tuple[JobConfig, RunFolder]:
    """Two steps: what it says is next to nothing, but its own."""
    train = {"max_steps": 2, "evaluate_every_steps": 1, "ema_decay": ema_decay}
    job = image_job(folder, train=train, schedule={"warmup_steps": 0})
    prepare(job.prepare, Deps())
    return job, RunFolder(run_job(job, Deps()).run)


def by_hand(run: LoadedClassifier, data: PreparedImages, split: str) -> tuple[list[float], list[int]]:
    """Nats and guess for each image, one at a time."""
    image, nats, guesses = run.image, list[float](), list[int]()
    for pixels, label in zip(data.images(split), data.labels(split), strict=True):
        inputs = (torch.from_numpy(np.array(pixels)).float()[None] / 255 - image.mean[0]) / image.std[0]
        logits = run.model(inputs)[0].double()
        nats.append(float(torch.logsumexp(logits, 0) - logits[int(label)]))
        guesses.append(int(logits.argmax()))
    return nats, guesses


@pytest.fixture
def found(tmp_path: Path) -> tuple[Classification, LoadedClassifier, PreparedImages]:
    """An evaluation, the model and the images."""
    job, folder = trained(tmp_path / "files")
    run = load_classifier(folder.path)
    seen: list[int] = []
    evaluation = classification_of(run, "val", progress=seen.append)
    assert seen == [24]
    return evaluation, run, open_images(prepared_folder(job.prepare))


def test_classification_of_a_run_is_what_each_image_says_by_itself(
    found: tuple[Classification, LoadedClassifier, PreparedImages],
) -> None:
    """Loss, accuracy and confusions; the batches leave no trace."""
    evaluation, run, data = found
    nats, guesses = by_hand(run, data, "val")
    labels = [int(label) for label in data.labels("val")]
    assert evaluation.images == len(labels) == 24
    assert evaluation.loss == pytest.approx(math.fsum(nats) / len(nats), rel=1e-5)
    right = sum(guess == label for guess, label in zip(guesses, labels, strict=True))
    assert evaluation.accuracy == right / 24
    assert evaluation.low <= evaluation.accuracy <= evaluation.high
    assert sum(map(sum, evaluation.confusion)) == 24
    assert sum(evaluation.confusion[place][place] for place in range(3)) == right
    metrics = run.checkpoint.metrics or {}
    assert (metrics["loss"], metrics["accuracy"]) == pytest.approx((evaluation.loss, evaluation.accuracy), rel=1e-5)


def test_classification_shows_the_worst_mistakes_with_their_pixels(
    found: tuple[Classification, LoadedClassifier, PreparedImages],
) -> None:
    """The highest loss first; none that is right."""
    evaluation, run, data = found
    nats, guesses = by_hand(run, data, "val")
    losses = [mistake.nats for mistake in evaluation.mistakes]
    assert losses == sorted(losses, reverse=True)
    wrong = [number for number, label in enumerate(data.labels("val")) if guesses[number] != label]
    assert sorted(mistake.number for mistake in evaluation.mistakes) == wrong[:25]
    for mistake in evaluation.mistakes:
        number = mistake.number
        assert base64.b64decode(mistake.pixels) == data.images("val")[number].tobytes()
        assert mistake.nats == pytest.approx(nats[number], rel=1e-4)
        assert (mistake.name, mistake.predicted) == (str(data.labels("val")[number]), str(guesses[number]))


def test_precision_and_recall_of_a_class_that_is_never_said_or_never_there() -> None:
    """A quotient of nothing is none."""
    plain = {
        "checkpoint": "", "step": 1, "weights": "raw", "split": "val", "images": 5, "loss": 1.0, "accuracy": 0.6,
        "low": 0.1, "high": 0.9, "baselines": {}, "channels": 1, "height": 1, "width": 1, "mistakes": [],
    }  # fmt: skip
    record = Classification.model_validate(
        plain | {"classes": ["a", "b", "c"], "confusion": [[3, 1, 0], [1, 0, 0], [0, 0, 0]]}
    )
    assert record.recalls() == [0.75, 0.0, None]
    assert record.precisions() == [0.75, 0.0, None]
    with pytest.raises(ValueError, match="confusion is no table of 2 by 2"):
        Classification.model_validate(plain | {"classes": ["a", "b"], "confusion": [[1, 2, 3], [4, 5, 6]]})


def test_baselines_are_the_commonest_class_and_the_nearest_mean(tmp_path: Path) -> None:
    """Against counting and distances by hand."""
    pixels, labels = drawn(40)
    labels[:30] = np.where(np.arange(30) % 4 == 0, labels[:30], 1)
    data = prepared_images(tmp_path, pixels, labels, val_fraction=0.25)
    known = ImageBaselines.fit(data)
    train, own = data.images("train").reshape(30, -1).astype(float), np.array(data.labels("train"))
    assert known.commonest == np.bincount(own).argmax() == 1
    means = np.stack([train[own == label].mean(0) for label in range(3)])
    images = data.images("val").reshape(10, -1).astype(float)
    distances = ((images[:, None] - means[None]) ** 2).sum(2)
    assert known.nearest(data, "val").tolist() == distances.argmin(1).tolist()
    shares = (np.bincount(own, minlength=3) + 1) / 33
    val = data.labels("val").astype(np.int64)
    assert known.nats(val) == pytest.approx(float(-np.log(shares[val]).mean()))


def test_classification_of_weights_that_are_no_numbers_says_what_to_do(tmp_path: Path) -> None:
    """Not an accuracy of nothing."""
    _, folder = trained(tmp_path / "files")
    run = load_classifier(folder.path)
    run.model.head.bias.fill_(float("nan"))
    with pytest.raises(CheckpointError, match=r"The loss of .* on the val split is not a number.*--checkpoint STEP"):
        classification_of(run, "val")


def test_load_classifier_knows_one_and_reads_the_averaged_weights(tmp_path: Path) -> None:
    """As the training evaluates."""
    job, folder = trained(tmp_path / "files", ema_decay=0.5)
    assert is_classifier(folder.id)
    assert is_classifier(str(folder.checkpoints / "step_000002"))
    assert not is_classifier("nobody")
    run = load_classifier(folder.checkpoints / "step_000002")
    assert (run.weights, run.run, run.job.name) == ("ema", None, job.name)


def test_load_classifier_without_what_its_images_are_is_refused(tmp_path: Path) -> None:
    """Nobody could say what its classes mean."""
    _, folder = trained(tmp_path / "files")
    checkpoint = folder.checkpoints / "step_000002"
    path = checkpoint / "images" / "images.json"
    content = json.loads(path.read_text())
    for change, message in (
        ({"std": [0.0]}, "is not what describes images: std.0: Input should be greater than 0"),
        ({"mean": []}, "1 channels have 0 means and 1 deviations"),
        ({"class_names": ["0", "1\n2", "3"]}, r"class_names: .* control character or a line end"),
    ):
        path.write_text(json.dumps(content | change))
        seal(checkpoint)
        with pytest.raises(DataError, match=message):
            load_classifier(checkpoint)
    path.unlink()
    path.parent.rmdir()
    seal(checkpoint)
    with pytest.raises(CheckpointError, match="does not say what its images are"):
        load_classifier(checkpoint)
