"""Loss on answers alone: nats of the targets of prepared chats, row by row. T tokens of a row."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.data_pipeline.chats.chat_dataset import ChatRows
from ml_playground.evaluation.loss import precision_of, row_nats
from ml_playground.sampling.runner import LoadedRun

POSITIONS_AT_ONCE = 1 << 14
"""Of a batch, padding included."""


class RowLosses(NamedTuple):
    """Of some rows, in the order in which they were asked for."""

    nats: NDArray[np.float64]
    """(N,) of the targets of each, times their weights; NaN for a row that is too long."""
    targets: NDArray[np.float64]
    """(N,) the sum of their weights."""

    @property
    def read(self) -> NDArray[np.bool_]:
        """(N,) rows that the model could read whole, and that have targets."""
        return ~np.isnan(self.nats) & (self.targets > 0)


def losses_of(
    run: LoadedRun, rows: ChatRows, numbers: Sequence[int], progress: Callable[[int], None] = lambda _: None
) -> RowLosses:
    """Nats of some rows of a split; rows longer than the model's context are left out.

    Args:
        run: The model, in the precision of its job, as in training.
        rows: Of the split.
        numbers: Which rows.
        progress: Told how many are done.
    """
    nats, targets = np.full(len(numbers), np.nan), np.zeros(len(numbers))
    most = run.model.max_context or POSITIONS_AT_ONCE
    fitting = [place for place, row in enumerate(numbers) if 1 < rows.lengths[row] <= most + 1]
    fitting.sort(key=lambda place: int(rows.lengths[numbers[place]]))
    rows.check()
    with precision_of(run):
        while fitting:
            # The longest of a batch is its last one.
            size = next(
                count
                for count in range(len(fitting), 0, -1)
                if count == 1 or count * rows.lengths[numbers[fitting[count - 1]]] <= POSITIONS_AT_ONCE
            )
            batch, fitting = fitting[:size], fitting[size:]
            nats[batch], targets[batch] = row_nats(
                run.model, batch_of(rows, [numbers[place] for place in batch]), run.execution.device
            )
            progress(len(numbers) - len(fitting))
    rows.check()
    return RowLosses(nats, targets)


def batch_of(rows: ChatRows, numbers: Sequence[int]) -> TokenBatch:
    """Whole rows, each token that weighs a target of the position before it, filled up at the right."""
    longest = max(int(rows.lengths[row]) for row in numbers) - 1
    ids = torch.zeros((len(numbers), longest), dtype=torch.int64)
    labels = torch.full_like(ids, NO_TARGET)
    weights = torch.zeros(ids.shape)
    for place, row in enumerate(numbers):
        own = torch.from_numpy(rows.ids(row).astype(np.int64))
        own_weights = torch.from_numpy(rows.weights(row).astype(np.float32))
        length = len(own) - 1
        ids[place, :length] = own[:-1]
        labels[place, :length] = torch.where(own_weights[1:] > 0, own[1:], NO_TARGET)
        weights[place, :length] = own_weights[1:]
    return TokenBatch(ids, labels, weights)
