"""What one epoch makes of a split's tokens, by kind of data: computed from counts, before any batch is cut. Free of torch."""

from pathlib import Path

from ml_playground.core.values import Fates
from ml_playground.data_pipeline.manifest import read_manifest
from ml_playground.data_pipeline.settings import TokenWindows


def of_windows(settings: TokenWindows, folder: Path) -> dict[str, Fates]:
    """`token_windows` over a prepared data set, by split.

    Raises:
        DataError: The data set is missing or damaged.
    """
    splits = read_manifest(folder).ledger.splits
    return {name: window_fates(counts.tokens, settings) for name, counts in splits.items()}


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
