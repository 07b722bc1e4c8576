"""Positions that no target depends on need not be read. B rows, T tokens, N positions that are needed."""

import numpy as np
import torch
from torch import Tensor

from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.models.protocols import NextTokenModel

WORTH = 1 / 16
"""Share of positions that must be in vain: a batch of its own shape costs some time anew."""


def needed_of(model: NextTokenModel, batch: TokenBatch) -> TokenBatch:
    """The same targets in one row, (1, N), without what follows the last of each document; the batch itself where that gains nothing.

    Padding, what is left over of packed rows, and questions without an answer are then not computed: about half of chats in rows of
    their own. Only where the model says `longest_alone`.
    """
    rows, length = batch.labels.shape
    if (
        torch.compiler.is_compiling()
        or batch.labels.device.type != "cpu"
        or length > getattr(model, "longest_alone", 0)
    ):
        return batch
    places = np.arange(rows * length)
    begins = places % length == 0
    if batch.documents is not None:
        documents = batch.documents.numpy().ravel()
        begins[1:] |= documents[1:] != documents[:-1]
    targets = np.where(batch.labels.numpy().ravel() != NO_TARGET, places, -1)
    last = np.maximum.reduceat(targets, np.flatnonzero(begins))
    numbers = np.cumsum(begins) - 1
    kept = np.flatnonzero(places <= last[numbers])
    if not 0 < len(kept) <= (1 - WORTH) * len(places):
        return batch
    chosen = torch.from_numpy(kept)

    def row(whole: Tensor) -> Tensor:
        return whole.flatten()[chosen][None]

    positions = torch.arange(length).expand(rows, -1) if batch.positions is None else batch.positions
    return TokenBatch(
        row(batch.ids),
        row(batch.labels),
        None if batch.weights is None else row(batch.weights),
        row(positions),
        torch.from_numpy(numbers[kept])[None],
    )
