"""Batches as values."""

import torch

from ml_playground.data_pipeline.batches import TokenBatch


def test_to_gives_the_same_batch_on_the_device() -> None:
    """Ids and labels go together."""
    batch = TokenBatch(torch.tensor([[1, 2]]), torch.tensor([[2, -100]]))
    moved = batch.to(torch.device("cpu"))
    assert isinstance(moved, TokenBatch)
    assert torch.equal(moved.ids, batch.ids)
    assert torch.equal(moved.labels, batch.labels)
