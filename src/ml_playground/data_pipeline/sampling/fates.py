"""What one epoch makes of a split, by kind of data: computed from counts, before any batch is cut. Free of torch."""

from pathlib import Path

from ml_playground.core.values import Fates
from ml_playground.data_pipeline.manifest import read_manifest
from ml_playground.data_pipeline.settings import ImageBatches, TokenWindows


def of_windows(settings: TokenWindows, folder: Path) -> dict[str, Fates]:
    """`token_windows` over a prepared data set, by split.

    Raises:
        DataError: The data set is missing or damaged.
    """
    return {name: window_fates(tokens, settings) for name, tokens in read_manifest(folder).sizes.items()}


def of_images(settings: ImageBatches, folder: Path) -> dict[str, Fates]:
    """`image_batches` over a prepared data set, by split: each image is a target, once.

    Raises:
        DataError: The data set is missing or damaged.
    """
    return {
        name: Fates(tokens=images, trained=images, batches=images / settings.micro_batch_rows)
        for name, images in read_manifest(folder).sizes.items()
    }


def window_fates(tokens: int, settings: TokenWindows) -> Fates:
    """Windows of T + 1 tokens at stride T: each token but the first is a target once, and the last window is padded."""
    targets = max(0, tokens - 1)
    windows = -(-targets // settings.sequence_tokens)
    return Fates(
        tokens=tokens,
        trained=targets,
        masked=tokens - targets,
        padding=windows * settings.sequence_tokens - targets,
        batches=windows / settings.micro_batch_rows,
    )
