"""Chats in a row of their own, and packed with others: to a model that reads documents apart it is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ml_playground.core.values import ModelContext
from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.data_pipeline.sampling.example_batches import ChatData, build_packed, build_padded
from ml_playground.data_pipeline.settings import PackedExamples, PaddedExamples
from ml_playground.models.core.gpt import build as build_gpt
from ml_playground.models.settings import Gpt
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken
from tests.fakes.prepared_chats import prepared_chats

SIZES: dict[str, Any] = {"sequence_tokens": 96, "micro_batch_rows": 2}


def both(folder: Path, **prepare: Any) -> tuple[ChatData, ChatData, torch.nn.Module]:
    """The same chats padded and packed, and a model in float64."""
    prepared = prepared_chats(folder, **prepare)
    padded = build_padded(PaddedExamples(**SIZES), prepared.folder, 1)
    packed = build_packed(PackedExamples(**SIZES), prepared.folder, 1)
    torch.manual_seed(0)
    settings = Gpt(n_layer=2, n_head=2, n_embd=16)
    return padded, packed, build_gpt(settings, ModelContext(padded.facts)).double()


def sums(model: Any, batches: list[TokenBatch]) -> tuple[torch.Tensor, float, torch.Tensor]:
    """Loss, targets, and the gradient of the first weights, over all batches."""
    objective = NextTokenObjective(NextToken(z_loss=0.01))
    model.zero_grad()
    losses = [objective.loss_sum(model, batch) for batch in batches]
    torch.stack(losses).sum().backward()
    gradient = next(model.parameters()).grad
    return torch.stack(losses).sum().detach(), sum(map(objective.targets, batches)), gradient.clone()


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_packed_and_padded_chats_have_equal_losses_and_gradients(tmp_path: Path, weight: float) -> None:
    """Over a whole split, weights of users' turns among it: attention and positions restart with each chat."""
    chat = {"template": "plain", "user_weight": weight}
    padded, packed, model = both(tmp_path, chat=chat)
    whole, packed_rows = list(padded.split("train")), list(packed.split("train"))
    assert sum(batch.rows for batch in packed_rows) < sum(batch.rows for batch in whole)
    assert any(batch.weights is not None for batch in whole) == (weight != 1)
    torch.testing.assert_close(sums(model, packed_rows), sums(model, whole))


def test_each_packed_chat_has_the_loss_that_it_has_alone(tmp_path: Path) -> None:
    """Chat by chat, and not only in the sum."""
    padded, packed, model = both(tmp_path)
    alone = sorted(float(sums(model, [row])[0]) for batch in padded.split("train") for row in batch.split(batch.rows))
    together = []
    for batch in packed.split("train"):
        assert batch.documents is not None
        for document in range(int(batch.documents.max()) + 1):
            for row in batch.split(batch.rows):
                assert row.documents is not None
                labels = torch.where(row.documents == document, row.labels, NO_TARGET)
                one = TokenBatch(row.ids, labels, None, row.positions, row.documents)
                if (labels != NO_TARGET).any():
                    together.append(float(sums(model, [one])[0]))
    assert sorted(together) == pytest.approx(alone, rel=1e-9)


def test_parts_of_a_packed_batch_have_the_sums_of_the_whole(tmp_path: Path) -> None:
    """Splitting a micro-batch because memory ran out is the same step."""
    _, packed, model = both(tmp_path, chat={"template": "plain", "user_weight": 0.5})
    whole = packed.train.batch_at(0)
    torch.testing.assert_close(sums(model, list(whole.split(2))), sums(model, [whole]))
