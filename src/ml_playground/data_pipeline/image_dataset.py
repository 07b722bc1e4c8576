"""Prepared images: an array of pixels and one of labels for each split, and what is known of all. N images, C, H, W their shape."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.error_handling import DataError
from ml_playground.core.image_facts import FOLDER, NAME, ImageFacts
from ml_playground.data_pipeline.image_ledger import ImageLedger, image_imbalances
from ml_playground.data_pipeline.image_protocol import Pixels
from ml_playground.data_pipeline.manifest import Manifest, Prepared, open_prepared
from ml_playground.data_pipeline.manifest_checks import Labels, Look, misplaced
from ml_playground.data_pipeline.storage.array_file import LABEL_TYPE, PIXEL_TYPE
from ml_playground.data_pipeline.storage.token_file import mapped


class ImageManifest(Manifest):
    """Of images."""

    attached: ClassVar[str] = FOLDER
    unit: ClassVar[str] = "image"

    holds: Literal["images"] = "images"
    """Tells it from a text."""
    image: ImageFacts
    """What `images/images.json` says too, which goes into every checkpoint."""
    ledger: ImageLedger
    """Counts of each split among it."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Images of each split."""
        return {split: counts.images for split, counts in self.ledger.splits.items()}

    @property
    def books(self) -> ImageLedger:
        """Where the images went."""
        return self.ledger

    def expected_fingerprint(self) -> str:
        """Over the arrays, and what is known of all images."""
        content = {"holds": self.holds, "files": {name: file.sha256 for name, file in sorted(self.files.items())}}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def contradictions(self) -> list[str]:
        """Sizes of files, numbers of classes, books that do not balance."""
        return [*misplaced(self.files, self.ledger.splits), *self._contradictions(), *image_imbalances(self.ledger)]

    def looks(self) -> Mapping[str, Look]:
        """Labels."""
        return {f"{split}.labels": Labels(len(self.image.class_names)) for split in self.splits}

    def check_losses(self, limit: float) -> None:
        """Nothing of an image is lost unasked: what cannot be read is refused."""

    def opened(self, folder: Path) -> "PreparedImages":
        """The data set in its folder."""
        return PreparedImages(folder, self)

    def _contradictions(self) -> Iterator[str]:
        classes = len(self.image.class_names)
        for split, counts in {**self.ledger.splits, **self.ledger.dropped}.items():
            if len(counts.by_class) != classes:
                yield f"{split} counts {len(counts.by_class)} classes of {classes}"
        for split, images in self.sizes.items():
            for name, size_bytes in (
                (f"{split}.images", images * self.image.pixels * PIXEL_TYPE.itemsize),
                (f"{split}.labels", images * LABEL_TYPE.itemsize),
            ):
                account = self.files.get(name)
                if account is None:
                    yield f"files lacks {name}"
                elif account.size_bytes != size_bytes:
                    yield f"{split} has {images} images, so {name} would have {size_bytes} bytes, not {account.size_bytes}"
        facts = self.files.get(f"{FOLDER}/{NAME}")
        if facts is None or facts.sha256 != hashlib.sha256(self.image.text.encode()).hexdigest():
            yield f"{FOLDER}/{NAME} does not say of the images what this file says"


@dataclass(frozen=True, slots=True)
class PreparedImages(Prepared):
    """Prepared images on disk."""

    manifest: ImageManifest

    def images(self, split: str) -> Pixels:
        """The pixels of a split, memory-mapped: (N, C, H, W).

        Raises:
            DataError: There is no such split.
        """
        self.check_split(split)
        image = self.manifest.image
        pixels = mapped(self.folder / f"{split}.images", PIXEL_TYPE)
        return pixels.reshape(-1, image.channels, image.height, image.width)

    def labels(self, split: str) -> NDArray[np.uint16]:
        """The class of each image of a split, memory-mapped: (N,).

        Raises:
            DataError: There is no such split.
        """
        self.check_split(split)
        return mapped(self.folder / f"{split}.labels", LABEL_TYPE)


def open_images(folder: Path) -> PreparedImages:
    """Prepared images, each file compared with its manifest.

    Raises:
        DataError: They are missing or damaged, or are no images.
    """
    prepared = open_prepared(folder)
    if not isinstance(prepared, PreparedImages):
        raise DataError(f"{folder} holds no images; choose a kind of [data] that reads what it holds.")
    return prepared
