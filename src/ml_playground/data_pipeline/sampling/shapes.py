"""How long the rows of padded batches are, and how much of them is padding. Free of torch. B rows, T positions a row, P pieces."""

import numpy as np
from numpy.typing import NDArray

from ml_playground.data_pipeline.sampling.epoch_order import evaluated
from ml_playground.data_pipeline.settings import PaddedExamples

SHAPES = 8
"""As many graphs torch.compile keeps of one function before it gives up on it."""

EVEN = 8
"""Rows are made up of such stretches at least: matrix units take no shorter ones."""


def padded_widths(positions: NDArray[np.int64], settings: PaddedExamples) -> NDArray[np.int64]:
    """Positions of a batch of which each piece is the longest, (P,)."""
    multiple, most = settings.padding_multiple, settings.sequence_tokens
    if multiple == "auto":
        multiple = EVEN * -(-most // (SHAPES * EVEN))
    return np.minimum(most, -(-positions // multiple) * multiple)


def padding_of_evaluation(positions: NDArray[np.int64], settings: PaddedExamples) -> int:
    """Positions without a token in the batches of an evaluation over all pieces, the longest first."""
    order = np.argsort(-positions, kind="stable")
    batches = evaluated(len(positions), settings.micro_batch_rows, settings.sequence_tokens, None, order)
    widths = padded_widths(positions, settings)
    return sum(int(widths[batch].max()) * len(batch) for batch in batches) - int(positions.sum())


def padding_of_epoch(positions: NDArray[np.int64], settings: PaddedExamples) -> int:
    """Positions without a token in the rows of an epoch of training; where these come at random, what is to be expected."""
    widths = padded_widths(positions, settings)
    pieces, rows = len(positions), settings.micro_batch_rows
    if settings.order == "sequential":
        batches = -(-pieces // rows)
        longest = widths[np.arange(batches * rows) % pieces].reshape(batches, rows).max(1)
        return int(np.repeat(longest, rows)[:pieces].sum() - positions.sum())
    # The longest of B that are drawn from P is at most the k-th shortest as often as all B are among these k.
    shortest_first = np.sort(widths)
    ranks = np.arange(1, pieces + 1)
    among = np.ones(pieces)
    for drawn in range(min(rows, pieces)):
        among *= np.maximum(ranks - drawn, 0) / (pieces - drawn)
    chances = np.diff(among, prepend=0.0)
    return round(pieces * float(chances @ shortest_first)) - int(positions.sum())
