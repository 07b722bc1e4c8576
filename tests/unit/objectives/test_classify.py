"""Cross-entropy of classes: sums that add up, smoothing in training alone."""

import math

import pytest
import torch
from torch import Tensor, nn

from ml_playground.data_pipeline.batches import ImageBatch
from ml_playground.objectives.classify import build
from ml_playground.objectives.settings import Classify


class Fixed(nn.Module):
    """Says the same of every image."""

    classes = 3

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3)."""
        return self.logits.expand(len(images), -1)


BATCH = ImageBatch(torch.zeros(4, 1, 2, 2), torch.tensor([0, 0, 1, 2]))


def test_sums_are_nats_and_right_answers_over_all_images() -> None:
    """The likeliest class is right for two of four."""
    found = build(Classify(label_smoothing=0.3)).sums(Fixed([math.log(4), math.log(2), math.log(2)]), BATCH)
    torch.testing.assert_close(
        found["loss"], torch.tensor([2 * math.log(2) + 2 * math.log(4), 4.0], dtype=torch.float64)
    )
    assert found["accuracy"].tolist() == [2.0, 4.0]


def test_sums_of_parts_add_up_to_those_of_the_whole() -> None:
    """However a batch is divided, or spread over ranks."""
    objective, model = build(Classify()), Fixed([0.3, -0.2, 0.9])
    whole = objective.sums(model, BATCH)
    parts = [objective.sums(model, part) for part in BATCH.split(3)]
    for name, total in whole.items():
        torch.testing.assert_close(sum((part[name] for part in parts), torch.zeros(2, dtype=torch.float64)), total)
    assert sum(objective.targets(part) for part in BATCH.split(3)) == objective.targets(BATCH) == 4


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_loss_sum_spreads_a_share_of_each_target_over_all_classes(share: float) -> None:
    """(1 - s) times the nats of the class, and s / K times those of each."""
    model = Fixed([1.0, 0.5, -1.0])
    nats = -torch.log_softmax(model.logits.detach(), 0)
    expected = (1 - share) * nats[BATCH.labels].sum() + share * 4 * nats.mean()
    torch.testing.assert_close(build(Classify(label_smoothing=share)).loss_sum(model, BATCH).detach(), expected)
