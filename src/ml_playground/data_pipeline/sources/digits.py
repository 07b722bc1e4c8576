"""scikit-learn's handwritten digits: 1,797 images of 8 x 8 that come with the library."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import sklearn  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray
from sklearn.datasets import load_digits  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.image_protocol import LabelledImage
from ml_playground.data_pipeline.settings import Digits
from ml_playground.data_pipeline.source_protocol import Provenance, SourceFile
from ml_playground.data_pipeline.storage.array_file import LABEL_TYPE

SIDE = 8
"""Rows and columns of an image."""
FULL = 16
"""Their brightest pixel."""


class DigitImages:
    """Each digit as an image of one channel, in the order of the library: those of one writer stand together."""

    def __init__(self, settings: Digits) -> None:
        self._settings = settings
        rows, labels = cast(tuple[NDArray[np.float64], NDArray[np.int64]], load_digits(return_X_y=True))
        # Half a step is added, so that 16 becomes 255 and all 17 values stay different.
        self._pixels = ((rows.reshape(-1, 1, SIDE, SIDE) * 255 + FULL // 2) // FULL).astype(np.uint8)
        self._labels = labels.astype(LABEL_TYPE)

    def images(self) -> Iterator[LabelledImage]:
        """Their place in the library as the id."""
        for number, (pixels, label) in enumerate(zip(self._pixels, self._labels.tolist(), strict=True)):
            yield LabelledImage(f"digits/{number:04d}", label, pixels)

    def class_names(self) -> Sequence[str]:
        """0 to 9."""
        return [str(digit) for digit in range(10)]

    def provenance(self) -> Provenance:
        """The hash of pixels and labels, whatever files the library keeps them in."""
        content = self._pixels.tobytes() + self._labels.tobytes()
        account = SourceFile(
            name="sklearn.datasets.load_digits", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
        )
        facts = {"scikit-learn": str(sklearn.__version__)}
        return Provenance(kind=self._settings.kind, files=(account,), facts=facts)


def build(settings: Digits, deps: Deps) -> DigitImages:
    """The source."""
    del deps
    return DigitImages(settings)
