"""What a person can know of the windows of a batch: where they lie, and what they say."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray


def described_rows(
    numbers: NDArray[np.int64],
    *,
    first_position: int,
    windows: int,
    sequence_tokens: int,
    tokens: NDArray[np.uint16 | np.uint32],
    document_starts: NDArray[np.uint64],
    decode: Callable[[Sequence[int]], str],
) -> list[Mapping[str, Any]]:
    """A row of JSON values for each window, in order.

    Args:
        numbers: Which windows, (B,).
        first_position: Of the first of them, counted over the whole run.
        windows: How many an epoch has.
        sequence_tokens: Tokens of a window.
        tokens: The split.
        document_starts: Where its documents start, in tokens.
        decode: Ids to text.
    """
    rows: list[Mapping[str, Any]] = []
    for position, window in enumerate(cast(list[int], numbers.tolist()), start=first_position):
        first = window * sequence_tokens
        ids = cast(list[int], tokens[first : first + sequence_tokens + 1].tolist())
        document = int(np.searchsorted(document_starts, first, side="right")) - 1
        rows.append(
            {
                "position": position,
                "epoch": position // windows,
                "window": window,
                "first_token": first,
                "tokens": len(ids),
                "document": document,
                "text": decode(ids),
            }
        )
    return rows
