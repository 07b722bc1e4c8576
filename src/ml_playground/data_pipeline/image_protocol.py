"""What a source of images offers. C channels, H rows of pixels, W pixels a row."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ml_playground.data_pipeline.source_protocol import Provenance

Pixels = NDArray[np.uint8]


class LabelledImage(NamedTuple):
    """An image and its class."""

    id: str
    """The same whenever the source is read; a split by hash goes by it."""
    label: int
    """Number of its class."""
    pixels: Pixels
    """(C, H, W); 0 is nothing, 255 full."""
    part: Literal["train", "test"] = "train"
    """`test` where the source itself keeps it for a final test."""


class ImageSource(Protocol):
    """Images that can be read more than once."""

    def images(self) -> Iterator[LabelledImage]:
        """All of them in a fixed order, one at a time.

        Raises:
            DataError: Something is missing, unreadable, or no image.
        """
        ...

    def class_names(self) -> Sequence[str] | None:
        """In the order of the labels; None: the labels are their own names."""
        ...

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of what `images` reads.

        Raises:
            DataError: As for `images`.
        """
        ...
