"""What is reached on images without learning much: the commonest class, and the nearest mean image. N images, K classes, D pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ml_playground.data_pipeline.image_dataset import PreparedImages

AT_ONCE = 4096
"""Images that are held as float32."""


@dataclass(frozen=True, slots=True)
class ImageBaselines:
    """Means and counts of the training images."""

    counts: NDArray[np.int64]
    """(K,) images of each class."""
    means: NDArray[np.float64]
    """(K, D) mean image of each class."""

    @classmethod
    def fit(cls, data: PreparedImages) -> Self:
        """Read the training images once."""
        classes, pixels = len(data.manifest.image.class_names), data.manifest.image.pixels
        sums, counts = np.zeros((classes, pixels)), np.zeros(classes, dtype=np.int64)
        for images, labels in _parts(data, "train"):
            counts += np.bincount(labels, minlength=classes)
            np.add.at(sums, labels, images)
        return cls(counts, sums / np.maximum(counts, 1)[:, None])

    @property
    def commonest(self) -> int:
        """The class with most training images; the first of equals."""
        return int(np.argmax(self.counts))

    def nats(self, labels: NDArray[np.int64]) -> float:
        """Mean loss of guessing each class as often as it occurs in training; one is added to each count."""
        shares = (self.counts + 1) / (self.counts.sum() + len(self.counts))
        return float(-np.log(shares[labels]).mean())

    def nearest(self, data: PreparedImages, split: str) -> NDArray[np.int64]:
        """(N,) the class whose mean image is nearest to each image of a split; classes without images are never near."""
        offsets = np.where(self.counts > 0, (self.means**2).sum(1) / 2, np.inf)
        found = [np.argmax(images @ self.means.T - offsets, axis=1) for images, _ in _parts(data, split)]
        return np.concatenate(found)


def _parts(data: PreparedImages, split: str) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Pixels (n, D) and labels (n,), some images at a time."""
    images, labels = data.images(split), data.labels(split)
    for start in range(0, len(labels), AT_ONCE):
        part = images[start : start + AT_ONCE]
        yield part.reshape(len(part), -1).astype(np.float32), labels[start : start + AT_ONCE].astype(np.int64)
