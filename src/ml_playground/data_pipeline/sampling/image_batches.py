"""Images in batches, each exactly once an epoch. B rows, C channels, H rows of pixels, W pixels a row."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ml_playground.core.image_facts import ImageFacts
from ml_playground.core.seeding import seed_for
from ml_playground.data_pipeline.batches import ImageBatch
from ml_playground.data_pipeline.image_dataset import PreparedImages, open_images
from ml_playground.data_pipeline.sampling.epoch_order import ChosenBatches, EpochOrder
from ml_playground.data_pipeline.sampling.prepared_batches import PreparedBatches
from ml_playground.data_pipeline.settings import ImageBatches
from ml_playground.data_pipeline.storage.array_file import LABEL_TYPE, PIXEL_TYPE
from ml_playground.data_pipeline.storage.open_array import OpenArray
from ml_playground.data_pipeline.transforms.images import Moves, moved, normalised

ROWS_WITHOUT_GRADIENT = 4
"""Batches of the training that are evaluated at once: without a gradient one layer's maps exist at a time."""


class Images:
    """The images of a split, and their labels, as long as their files stay what they were."""

    def __init__(self, pixels: OpenArray[np.uint8], labels: OpenArray[np.uint16], image: ImageFacts) -> None:
        self._pixels, self._labels, self._image = pixels, labels, image
        self._shaped = pixels.numbers.reshape(-1, image.channels, image.height, image.width)

    def __len__(self) -> int:
        """How many."""
        return len(self._shaped)

    def batch(self, numbers: NDArray[np.int64], moves: Moves | None = None) -> ImageBatch:
        """The images of these numbers, moved if asked, and normalised.

        Raises:
            DataError: A file is no longer what it was.
        """
        self._check()
        pixels = torch.from_numpy(self._shaped[numbers])
        labels = self._labels.numbers[numbers].astype(np.int64)
        self._check()
        images = pixels.float() / 255
        if moves is not None:
            images = moved(images, moves)
        return ImageBatch(normalised(images, self._image), torch.from_numpy(labels))

    def labels(self, numbers: NDArray[np.int64]) -> list[int]:
        """Of these images."""
        return self._labels.numbers[numbers].tolist()

    def _check(self) -> None:
        # Before, for what was cut off from a mapped file must not be touched; after, for what is handed out must be sound.
        self._pixels.check()
        self._labels.check()


class TrainingImages:
    """Batches without end, each a function of seed and number alone: which images, and how each is moved."""

    def __init__(self, images: Images, settings: ImageBatches, seed: int) -> None:
        self._images, self._settings, self._seed = images, settings, seed
        self._order = EpochOrder(len(images), settings.micro_batch_rows, settings.order, seed, "images")

    def batch_at(self, index: int) -> ImageBatch:
        """Micro-batch number `index` of the run."""
        return self._images.batch(self.numbers_at(index), self._moves(index))

    def numbers_at(self, index: int) -> NDArray[np.int64]:
        """Which images that is, (B,)."""
        return self._order.numbers_at(index)

    def _moves(self, index: int) -> Moves | None:
        """Where to: another way for each row of each batch of the run, so that no image is seen twice alike."""
        shift, degrees = self._settings.shift_pixels, self._settings.rotate_degrees
        if not shift and not degrees:
            return None
        draws = np.random.default_rng(seed_for(self._seed, "moves", index)).uniform(
            -1.0, 1.0, (3, self._settings.micro_batch_rows)
        )
        down, right, turned = torch.from_numpy(draws.astype(np.float32))
        return Moves(down * shift, right * shift, turned * float(np.deg2rad(degrees)))


class ImageBatchData(PreparedBatches[ImageBatch]):
    """Prepared images as batches."""

    def __init__(
        self,
        settings: ImageBatches,
        prepared: PreparedImages,
        seed: int,
        before: Mapping[Path, os.stat_result] | None = None,
    ) -> None:
        """`before`: the states of its files before they were compared with their hashes."""
        self._settings = settings
        self._prepared = prepared
        self._before = before or {}
        self._splits = {name: self._opened(name) for name in prepared.manifest.splits}
        self._batches = TrainingImages(self._splits["train"], settings, seed)
        super().__init__(
            prepared,
            self._batches,
            ImageBatch.pinned,
            facts=prepared.manifest.image.for_model,
            micro_batches_per_epoch=len(self._splits["train"]) / settings.micro_batch_rows,
        )

    def rows_at(self, index: int) -> Sequence[Mapping[str, Any]]:
        """For each row of training micro-batch `index`: position, epoch, image and its class."""
        numbers = self._batches.numbers_at(index)
        names = self._prepared.manifest.image.class_names
        images, first = self._splits["train"], index * self._settings.micro_batch_rows
        return [
            {"position": first + row, "epoch": (first + row) // len(images), "image": number, "class": names[label]}
            for row, (number, label) in enumerate(zip(numbers.tolist(), images.labels(numbers), strict=True))
        ]

    def _opened(self, name: str) -> Images:
        """A split over its files."""
        manifest, folder = self._prepared.manifest, self._prepared.folder
        pixels, labels = folder / f"{name}.images", folder / f"{name}.labels"
        files = manifest.files
        return Images(
            OpenArray(pixels, PIXEL_TYPE, files[pixels.name].sha256, self._before.get(pixels)),
            OpenArray(labels, LABEL_TYPE, files[labels.name].sha256, self._before.get(labels)),
            manifest.image,
        )

    def split(self, name: str, *, max_batches: int | None = None) -> ChosenBatches[ImageBatch]:
        """The images of a split in order, each once, as they are; the last batch may have fewer.

        At most `max_batches` training batches' worth are spread evenly over the whole split.

        Raises:
            DataError: The data set has no such split.
        """
        self._prepared.check_split(name)
        images, rows = self._splits[name], self._settings.micro_batch_rows
        count = len(images) if max_batches is None else min(len(images), max_batches * rows)
        chosen = np.arange(count, dtype=np.int64) * len(images) // count
        rows *= ROWS_WITHOUT_GRADIENT
        return ChosenBatches(images.batch, [chosen[start : start + rows] for start in range(0, count, rows)])


def build(settings: ImageBatches, folder: Path, seed: int) -> ImageBatchData:
    """The batches over prepared images.

    Raises:
        DataError: They are missing or damaged, or are no images.
    """
    before = {path: path.stat() for pattern in ("*.images", "*.labels") for path in folder.glob(pattern)}
    return ImageBatchData(settings, open_images(folder), seed, before)
