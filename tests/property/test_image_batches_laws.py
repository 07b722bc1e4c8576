"""Batches of images: each image once an epoch, each batch a function of seed and number, moved as a sheet of paper would be."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.error_handling import DataError
from ml_playground.core.image_facts import ImageFacts
from ml_playground.data_pipeline.batches import ImageBatch
from ml_playground.data_pipeline.image_dataset import PreparedImages
from ml_playground.data_pipeline.sampling.image_batches import build
from ml_playground.data_pipeline.settings import ImageBatches
from ml_playground.data_pipeline.transforms.images import Moves, moved, normalised
from tests.fakes.image_files import drawn, prepared_images

IMAGES = 30


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedImages:
    """Thirty images, no two alike: 22 of training, 8 of validation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLP_HOME", str(tmp_path_factory.mktemp("home")))
        return prepared_images(tmp_path_factory.mktemp("files"), *drawn(IMAGES), val_fraction=0.25)


def pixels_of(batch: ImageBatch, image: ImageFacts) -> list[bytes]:
    """The pixels from which a batch was made."""
    raw = batch.images * torch.tensor(image.std).view(1, -1, 1, 1) + torch.tensor(image.mean).view(1, -1, 1, 1)
    return [one.numpy().tobytes() for one in (raw * 255).round().to(torch.uint8)]


@given(
    rows=st.integers(1, 40),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 9),
    order=st.sampled_from(["random", "sequential"]),
)
def test_batches_of_any_size_hold_each_image_once_an_epoch(
    prepared: PreparedImages, rows: int, epochs: int, seed: int, order: str
) -> None:
    """With its own label; a batch may reach over the end of an epoch, or of several."""
    data = build(ImageBatches.model_validate({"micro_batch_rows": rows, "order": order}), prepared.folder, seed)
    images = prepared.images("train")
    own = {image.tobytes(): int(label) for image, label in zip(images, prepared.labels("train"), strict=True)}
    batches = [data.train.batch_at(index) for index in range(-(-epochs * len(images) // rows))]
    seen = [one for batch in batches for one in pixels_of(batch, prepared.manifest.image)]
    labels = [int(label) for batch in batches for label in batch.labels]
    assert labels == [own[one] for one in seen]
    for epoch in range(epochs):
        assert sorted(seen[epoch * len(images) : (epoch + 1) * len(images)]) == sorted(own)
    assert data.micro_batches_per_epoch == len(images) / rows
    assert [row["position"] for row in data.rows_at(1)] == list(range(rows, 2 * rows))
    assert [row["class"] for row in data.rows_at(0)] == [str(own[one]) for one in seen[:rows]]


@given(
    index=st.integers(0, 50),
    seed=st.integers(0, 9),
    shift=st.sampled_from([0.0, 2.0]),
    degrees=st.sampled_from([0.0, 30.0]),
)
def test_batch_is_a_function_of_seed_and_number(
    prepared: PreparedImages, index: int, seed: int, shift: float, degrees: float
) -> None:
    """However many came before it, to the bit: a resumed run goes on with the same images, moved the same way."""
    settings = ImageBatches(micro_batch_rows=5, shift_pixels=shift, rotate_degrees=degrees)
    one, other = build(settings, prepared.folder, seed), build(settings, prepared.folder, seed)
    other.train.batch_at(index + 1)
    found, again = one.train.batch_at(index), other.train.batch_at(index)
    assert torch.equal(found.images, again.images)
    assert torch.equal(found.labels, again.labels)
    later = one.train.batch_at(index + 22)
    assert torch.equal(found.labels, later.labels) or not torch.equal(found.images, later.images)


@given(rows=st.integers(1, 9), most=st.one_of(st.none(), st.integers(1, 9)))
def test_split_of_an_evaluation_holds_each_image_once_and_unmoved(
    prepared: PreparedImages, rows: int, most: int | None
) -> None:
    """What is evaluated is what was prepared; fewer are spread evenly."""
    settings = ImageBatches(micro_batch_rows=rows, shift_pixels=3.0, rotate_degrees=45.0)
    chosen = build(settings, prepared.folder, 1).split("val", max_batches=most)
    seen = [one for batch in chosen for one in pixels_of(batch, prepared.manifest.image)]
    own = [image.tobytes() for image in prepared.images("val")]
    count = len(own) if most is None else min(len(own), most * rows)
    assert seen == [own[number * len(own) // count] for number in range(count)]
    assert len(chosen) == -(-count // (4 * rows))


def test_split_that_is_not_there_is_refused_before_a_batch(prepared: PreparedImages) -> None:
    """By the call, not by the first batch."""
    with pytest.raises(DataError, match="no split 'test'"):
        build(ImageBatches(), prepared.folder, 1).split("test")


def test_file_written_into_while_in_use_is_noticed(tmp_path: Path) -> None:
    """It is mapped: the change would be in the next batch."""
    own = prepared_images(tmp_path, *drawn(12), val_fraction=0.25)
    data = build(ImageBatches(micro_batch_rows=2), own.folder, 1)
    data.train.batch_at(0)
    with (own.folder / "train.images").open("r+b") as stream:
        stream.write(b"\x01\x02")
    with pytest.raises(DataError, match=r"train\.images was written into while it was trained on"):
        data.train.batch_at(1)


def still(rows: int) -> torch.Tensor:
    return torch.zeros(rows)


@given(down=st.integers(-3, 3), right=st.integers(-3, 3), seed=st.integers(0, 9))
def test_moved_by_whole_pixels_is_a_shift_with_nothing_behind_it(down: int, right: int, seed: int) -> None:
    """To single precision."""
    images = torch.rand(2, 3, 6, 9, generator=torch.Generator().manual_seed(seed))
    found = moved(images, Moves(still(2) + down, still(2) + right, still(2)))
    expected = torch.zeros_like(images)
    rows, columns = slice(max(0, down), 6 + min(0, down)), slice(max(0, right), 9 + min(0, right))
    expected[:, :, rows, columns] = images[:, :, max(0, -down) : 6 - max(0, down), max(0, -right) : 9 - max(0, right)]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_moved_by_a_right_angle_is_turned_clockwise() -> None:
    """As a person would say it, looking at the image."""
    images = torch.rand(1, 1, 7, 7)
    found = moved(images, Moves(still(1), still(1), still(1) + torch.pi / 2))
    torch.testing.assert_close(found, torch.rot90(images, -1, (2, 3)), rtol=0, atol=2e-5)


def test_normalised_training_images_have_mean_zero_and_deviation_one(prepared: PreparedImages) -> None:
    """In each channel."""
    images = torch.from_numpy(np.array(prepared.images("train"))).float() / 255
    found = normalised(images, prepared.manifest.image)
    assert float(found.mean()) == pytest.approx(0, abs=1e-5)
    assert float(found.std(unbiased=False)) == pytest.approx(1, abs=1e-5)
