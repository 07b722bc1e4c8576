"""Positions that no target depends on are left out, and no number changes by it."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ml_playground.core.values import ModelContext
from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.models.core.gpt import GptModel, build
from ml_playground.models.settings import Gpt
from ml_playground.objectives.needed import needed_of
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken
from tests.fakes.chat_rows import gradients_of, our_loss, packed, padded, some_chats

VOCAB, LENGTH = 31, 12


def model_of(**options: Any) -> GptModel:
    """Two blocks in float64."""
    torch.manual_seed(0)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 8, "position": "rotary"}
    facts = {"vocab_size": VOCAB, "sequence_tokens": LENGTH}
    return build(Gpt.model_validate(sizes | options), ModelContext(facts)).double().train()


def read_by(model: GptModel, batch: TokenBatch) -> list[tuple[int, ...]]:
    """Shapes of ids that the model reads for a loss."""
    shapes: list[tuple[int, ...]] = []
    handle = model.token_embedding.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    NextTokenObjective(NextToken()).loss_sum(model, batch)
    handle.remove()
    return shapes


chats = st.lists(st.integers(2, LENGTH), min_size=1, max_size=5).map(lambda sizes: some_chats(VOCAB, sizes))


@given(chats, st.booleans())
@settings(max_examples=30, deadline=None)
def test_loss_gradients_and_sums_are_those_of_the_whole_batch(some: list[Any], in_one_row: bool) -> None:
    """Padded or packed: what follows the last target of a document gave nothing to it."""
    model = model_of()
    batch = packed([some]) if in_one_row else padded(some)
    if not (batch.labels != NO_TARGET).any():
        return
    objective = NextTokenObjective(NextToken())
    expected, found = our_loss(model, batch), objective.loss_sum(model, batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(gradients_of(found, model), gradients_of(expected, model), rtol=0, atol=1e-10)
    measured = objective.sums(model, batch)["loss"].tolist()
    assert measured == pytest.approx([expected.item(), objective.targets(batch)])


def test_weights_follow_their_targets() -> None:
    """A weighted loss is the same, too."""
    batch = padded(some_chats(VOCAB, (12, 3, 4)))
    weights = torch.where(batch.labels == NO_TARGET, 0.0, torch.rand(batch.labels.shape) + 0.5)
    model, objective = model_of(), NextTokenObjective(NextToken())
    logits = model(batch.ids).flatten(0, 1)
    expected = (functional.cross_entropy(logits, batch.labels.flatten(), reduction="none") * weights.flatten()).sum()
    weighted = TokenBatch(batch.ids, batch.labels, weights)
    torch.testing.assert_close(objective.loss_sum(model, weighted), expected)
    assert objective.targets(weighted) == pytest.approx(float(weights.sum()))


def test_padding_and_what_follows_the_last_answer_are_not_read() -> None:
    """The model sees one row of what is needed."""
    some = some_chats(VOCAB, (12, 3, 4))
    batch = padded(some)
    assert read_by(model_of(), batch) == [(1, sum(int(chat.targets.nonzero().max()) for chat in some))]
    labels: Tensor = batch.labels.clone()
    labels[0, 5:] = NO_TARGET
    labels[1] = NO_TARGET
    assert read_by(model_of(), TokenBatch(batch.ids, labels)) == [(1, 5 + int(some[2].targets.nonzero().max()))]


def test_full_rows_and_rows_without_a_target_stay_as_they_are() -> None:
    """Windows of text have targets to their end; a batch without any has nothing to choose by."""
    full = TokenBatch(torch.ones(2, LENGTH, dtype=torch.long), torch.ones(2, LENGTH, dtype=torch.long))
    assert needed_of(model_of(), full) is full
    none = TokenBatch(full.ids, torch.full_like(full.labels, NO_TARGET))
    assert needed_of(model_of(), none) is none


def test_models_that_balance_over_rows_or_take_no_layout_read_all() -> None:
    """Experts are spread over each row, and a recurrent model goes on from one document to the next."""
    batch = padded(some_chats(VOCAB, (12, 3, 4)))
    routed = model_of(n_expert=2)
    assert needed_of(routed, batch) is batch
    assert read_by(routed, batch) == [(3, 12)]
    plain: Any = torch.nn.Identity()
    assert needed_of(plain, batch) is batch
