"""What one epoch makes of a split, by kind of data: computed from counts, before any batch is cut. Free of torch."""

from pathlib import Path

from ml_playground.core.values import Fates
from ml_playground.data_pipeline.chats.chat_dataset import open_chats
from ml_playground.data_pipeline.manifest import read_manifest
from ml_playground.data_pipeline.sampling.cutting import Cut, cut
from ml_playground.data_pipeline.sampling.fitting_rows import check_fit
from ml_playground.data_pipeline.sampling.packing import best_fit_decreasing
from ml_playground.data_pipeline.sampling.pair_cutting import whole_pairs
from ml_playground.data_pipeline.sampling.shapes import padding_of_epoch, padding_of_evaluation
from ml_playground.data_pipeline.settings import (
    ExampleRows,
    ImageBatches,
    PackedExamples,
    PaddedExamples,
    PreferencePairs,
    TokenWindows,
)


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


def of_padded(settings: PaddedExamples, folder: Path) -> dict[str, Fates]:
    """`padded_examples` over prepared chats, by split.

    Raises:
        DataError: The data set is missing or damaged, or holds chats that are too long.
    """
    return {split: padded_fates(held, settings, split) for split, held in _cuts(settings, folder).items()}


def of_packed(settings: PackedExamples, folder: Path) -> dict[str, Fates]:
    """`packed_examples` over prepared chats, by split.

    Raises:
        DataError: The data set is missing or damaged, or holds chats that are too long.
    """
    return {split: packed_fates(held, settings) for split, held in _cuts(settings, folder).items()}


def of_pairs(settings: PreferencePairs, folder: Path) -> dict[str, Fates]:
    """`preference_pairs` over prepared chats, by split; the answers that lost their partner are left out with it.

    Raises:
        DataError: The data set is missing or damaged, or holds chats that are too long.
    """
    return {split: pair_fates(whole_pairs(held), settings, split) for split, held in _cuts(settings, folder).items()}


def pair_fates(held: Cut, settings: PreferencePairs, split: str = "train") -> Fates:
    """Two pieces a pair, both as long as the longest of their batch."""
    padding = padding_of_epoch if split == "train" else padding_of_evaluation
    longer = held.positions.reshape(-1, 2).max(1)
    positions = 2 * (padding(longer, settings) + int(longer.sum())) - int(held.positions.sum())
    return _fates(held, len(longer), positions, settings)


def padded_fates(held: Cut, settings: PaddedExamples, split: str = "train") -> Fates:
    """A piece a row. The padding of the training is what is to be expected of a random order; that of other splits is exact."""
    padding = padding_of_epoch if split == "train" else padding_of_evaluation
    return _fates(held, len(held.rows), padding(held.positions, settings), settings)


def packed_fates(held: Cut, settings: PackedExamples) -> Fates:
    """Several pieces a row; what they leave of it is padding."""
    bins = len(best_fit_decreasing(held.positions, settings.sequence_tokens))
    return _fates(held, bins, bins * settings.sequence_tokens - int(held.positions.sum()), settings)


def _fates(held: Cut, rows: int, padding: int, settings: ExampleRows) -> Fates:
    return Fates(
        tokens=held.tokens,
        trained=held.trained,
        masked=held.masked,
        truncated=held.truncated,
        dropped=held.dropped,
        padding=padding,
        batches=rows / settings.micro_batch_rows,
    )


def _cuts(settings: ExampleRows, folder: Path) -> dict[str, Cut]:
    prepared = open_chats(folder)
    examples = {split: prepared.rows(split) for split in prepared.manifest.splits}
    check_fit(folder, examples, settings)
    return {split: cut(held, settings.sequence_tokens, settings.truncation) for split, held in examples.items()}


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
