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


def test_to_another_device_counts_the_labelled_positions_on_the_way() -> None:
    """The host knows them without asking; a batch in which all are labelled has nothing to count."""
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    moved = TokenBatch(ids, torch.tensor([[2, -100, 4], [-100, -100, 7]])).to(torch.device("meta"))
    assert moved.labelled is not None
    assert moved.labelled.shape == (3,)
    assert TokenBatch(ids, ids).to(torch.device("meta")).labelled is None


def test_split_gives_each_part_its_rows_of_every_tensor() -> None:
    """Weights, positions and documents stay with their ids."""
    tensors = [torch.arange(12).view(4, 3) + 100 * number for number in range(5)]
    parts = TokenBatch(*tensors).split(3)
    for place, name in enumerate(("ids", "labels", "weights", "positions", "documents")):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), tensors[place])
