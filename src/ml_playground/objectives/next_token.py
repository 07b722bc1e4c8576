"""Cross-entropy of each next token. B rows, T tokens, C width, V vocabulary."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch, labelled_of
from ml_playground.models.protocols import Layout, NextTokenModel, States, states_of
from ml_playground.objectives.needed import needed_of
from ml_playground.objectives.settings import NextToken

LARGEST_LOGITS = 1 << 26
"""Logits computed at once. Their float32 copy and its gradient then take half a gigabyte; above, they are recomputed in parts."""


class NextTokenObjective:
    """Nats of every next token that has a label, times its weight."""

    unit = "token"

    def __init__(self, settings: NextToken, *, largest_logits: int = LARGEST_LOGITS) -> None:
        self._z_loss, self._largest_logits = settings.z_loss, largest_logits

    def targets(self, batch: TokenBatch) -> float:
        """Positions with a label; where labels weigh, the sum of their weights."""
        return float(_counts(batch).sum())

    def loss_sum(self, model: NextTokenModel, batch: TokenBatch) -> Tensor:
        """() nats over the targets, plus z_loss times the squared log-partitions; float32, or float64 for such a model.

        What the model adds of its own (`States.auxiliary`) is in the gradient and not in the value: the loss of a step is that
        of the text, comparable between models and with an evaluation.
        """
        batch = needed_of(model, batch)
        states = states_of_batch(model, batch)
        nats = self._nats(model, states.hidden, batch, self._z_loss)
        if states.auxiliary is None:
            return nats
        added = (states.auxiliary * _counts(batch).sum(-1)).sum()
        return nats + (added - added.detach())

    @torch.no_grad()
    def sums(self, model: NextTokenModel, batch: TokenBatch) -> Mapping[str, Tensor]:
        """Nats and targets, (2,), without z_loss; what the model measures of itself, and rows."""
        batch = needed_of(model, batch)
        states = states_of_batch(model, batch)
        nats = self._nats(model, states.hidden, batch, 0.0)
        sums = {"loss": torch.stack([nats, _counts(batch).sum().to(nats.dtype)])}
        for name, rows in states.measures.items():
            sums[name] = torch.stack([rows.sum(), rows.new_tensor(len(rows))])
        return sums

    def _nats(self, model: NextTokenModel, states: Tensor, batch: TokenBatch, z_loss: float) -> Tensor:
        """The whole batch at once, or in parts whose logits are forgotten and computed again on the way back."""
        held = [states.flatten(0, 1), batch.labels.flatten()]
        if batch.weights is not None:
            held.append(batch.weights.flatten())
        if (labelled := _labelled(batch)) is not None:
            held = [one.index_select(0, labelled) for one in held]
        positions = max(1, self._largest_logits // model.vocab_size)
        if len(held[1]) <= positions:
            return _part(model, z_loss, *held)
        total = torch.zeros((), dtype=torch.promote_types(states.dtype, torch.float32), device=states.device)
        for part in zip(*(torch.split(one, positions) for one in held), strict=True):
            if torch.is_grad_enabled():
                # The head draws no random numbers, so there is no generator's state to keep.
                nats = cast(
                    Tensor, checkpoint(_part, model, z_loss, *part, use_reentrant=False, preserve_rng_state=False)
                )
            else:
                nats = _part(model, z_loss, *part)
            total = total + nats
        return total


def build(settings: NextToken) -> NextTokenObjective:
    """The objective of these settings."""
    return NextTokenObjective(settings)


def states_of_batch(model: NextTokenModel, batch: TokenBatch) -> States:
    """The states of a batch, each document of its rows by itself."""
    if batch.positions is None or batch.documents is None:
        return states_of(model, batch.ids)
    return states_of(model, batch.ids, Layout(batch.positions, batch.documents))


def _counts(batch: TokenBatch) -> Tensor:
    """(B, T) what each position counts among the targets."""
    return batch.labels != NO_TARGET if batch.weights is None else batch.weights


def _labelled(batch: TokenBatch) -> Tensor | None:
    """(n,) the positions that go through the head, of all B T; None: all of them.

    Of a chat a tenth to a half are targets: logits of the others are never looked at, and take most of the time and memory of the head
    (docs/LOG.md, head of labelled positions). A compiled graph holds for one number of them, so there it is all.
    """
    if torch.compiler.is_compiling():
        return None
    if batch.labelled is None and batch.labels.device.type == "cpu":
        return labelled_of(batch.labels)
    return batch.labelled


def _part(
    model: NextTokenModel, z_loss: float, hidden: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Tensor:
    """() nats of states (N, C), labels (N,) and their weights (N,)."""
    logits = model.head(hidden)
    # Sums of many small numbers: bfloat16 logits are widened before the logarithm, not after.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if weights is None:
        nats = functional.cross_entropy(logits, labels, ignore_index=NO_TARGET, reduction="sum")
    else:
        nats = (functional.cross_entropy(logits, labels, ignore_index=NO_TARGET, reduction="none") * weights).sum()
    if z_loss:
        partitions = torch.logsumexp(logits, dim=-1).square()
        counted = partitions.masked_fill(labels == NO_TARGET, 0.0) if weights is None else partitions * weights
        nats = nats + z_loss * counted.sum()
    return nats
