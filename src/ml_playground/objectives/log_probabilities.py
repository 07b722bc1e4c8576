"""How likely a model thinks the targets of each row are. R rows, T positions, N targets, V vocabulary, C width."""

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch, labelled_of
from ml_playground.models.protocols import NextTokenModel
from ml_playground.objectives.next_token import LARGEST_LOGITS, states_of_batch


class RowLikelihoods(NamedTuple):
    """Of the rows of a batch."""

    log_probabilities: Tensor
    """(R,) nats: the sum over a row's targets, each times its weight; float32, or float64 for such a model."""
    auxiliary: Tensor | None
    """(R,) what the model adds of its own for each target (`States.auxiliary`)."""


def row_likelihoods(
    model: NextTokenModel, batch: TokenBatch, *, largest_logits: int = LARGEST_LOGITS
) -> RowLikelihoods:
    """How likely each row's targets are; at most `largest_logits` logits exist at once, and are computed again on the way back."""
    states = states_of_batch(model, batch)
    hidden, labels = states.hidden.flatten(0, 1), batch.labels.flatten()
    chosen = _labelled(batch)
    if chosen is not None:
        hidden, labels = hidden.index_select(0, chosen), labels.index_select(0, chosen)
    positions = max(1, largest_logits // model.vocab_size)
    parts = zip(torch.split(hidden, positions), torch.split(labels, positions), strict=True)
    recomputed = torch.is_grad_enabled() and len(labels) > positions
    part = _recomputed_part if recomputed else _part
    found = torch.cat([part(model, some, wanted) for some, wanted in parts])
    if chosen is not None:
        # Each place once, so that the sum of a row is one order of summation on every device.
        found = found.new_zeros(batch.labels.numel()).index_copy(0, chosen, found)
    found = found.view(batch.labels.shape)
    return RowLikelihoods((found if batch.weights is None else found * batch.weights).sum(1), states.auxiliary)


def _labelled(batch: TokenBatch) -> Tensor | None:
    """(N,) the positions that go through the head, as `next_token` has them; None: all."""
    if torch.compiler.is_compiling():
        return None
    if batch.labelled is None and batch.labels.device.type == "cpu":
        return labelled_of(batch.labels)
    return batch.labelled


def _recomputed_part(model: NextTokenModel, hidden: Tensor, labels: Tensor) -> Tensor:
    """The same, without keeping the logits for the way back."""
    # The head draws no random numbers, so there is no generator's state to keep.
    return cast(Tensor, checkpoint(_part, model, hidden, labels, use_reentrant=False, preserve_rng_state=False))


def _part(model: NextTokenModel, hidden: Tensor, labels: Tensor) -> Tensor:
    """(n,) log-probabilities of labels (n,) after states (n, C)."""
    logits = model.head(hidden)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return -functional.cross_entropy(logits, labels, ignore_index=NO_TARGET, reduction="none")
