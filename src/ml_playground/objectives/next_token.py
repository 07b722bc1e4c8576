"""Cross-entropy of each next token. B rows, T tokens, C width, V vocabulary."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.models.protocols import NextTokenModel, states_of
from ml_playground.objectives.settings import NextToken

LARGEST_LOGITS = 1 << 26
"""Logits computed at once. Their float32 copy and its gradient then take half a gigabyte; above, they are recomputed in parts."""


class NextTokenObjective:
    """Nats of every next token that has a label."""

    unit = "token"

    def __init__(self, settings: NextToken, *, largest_logits: int = LARGEST_LOGITS) -> None:
        self._z_loss, self._largest_logits = settings.z_loss, largest_logits

    def targets(self, batch: TokenBatch) -> float:
        """Positions with a label."""
        return float((batch.labels != NO_TARGET).sum())

    def loss_sum(self, model: NextTokenModel, batch: TokenBatch) -> Tensor:
        """() nats over the targets, plus z_loss times the squared log-partitions; float32, or float64 for such a model.

        What the model adds of its own (`States.auxiliary`) is in the gradient and not in the value: the loss of a step is that
        of the text, comparable between models and with an evaluation.
        """
        states = states_of(model, batch.ids)
        nats = self._nats(model, states.hidden, batch.labels, self._z_loss)
        if states.auxiliary is None:
            return nats
        added = (states.auxiliary * (batch.labels != NO_TARGET).sum(-1)).sum()
        return nats + (added - added.detach())

    @torch.no_grad()
    def sums(self, model: NextTokenModel, batch: TokenBatch) -> Mapping[str, Tensor]:
        """Nats and targets, (2,), without z_loss; what the model measures of itself, and rows."""
        states = states_of(model, batch.ids)
        nats = self._nats(model, states.hidden, batch.labels, 0.0)
        sums = {"loss": torch.stack([nats, (batch.labels != NO_TARGET).sum().to(nats.dtype)])}
        for name, rows in states.measures.items():
            sums[name] = torch.stack([rows.sum(), rows.new_tensor(len(rows))])
        return sums

    def _nats(self, model: NextTokenModel, states: Tensor, targets: Tensor, z_loss: float) -> Tensor:
        """The whole batch at once, or in parts whose logits are forgotten and computed again on the way back."""
        hidden, labels = states.flatten(0, 1), targets.flatten()
        positions = max(1, self._largest_logits // model.vocab_size)
        if len(labels) <= positions:
            return _part(model, hidden, labels, z_loss)
        total = torch.zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32), device=hidden.device)
        for some_hidden, some_labels in zip(
            torch.split(hidden, positions), torch.split(labels, positions), strict=True
        ):
            if torch.is_grad_enabled():
                # The head draws no random numbers, so there is no generator's state to keep.
                part = cast(
                    Tensor,
                    checkpoint(
                        _part, model, some_hidden, some_labels, z_loss, use_reentrant=False, preserve_rng_state=False
                    ),
                )
            else:
                part = _part(model, some_hidden, some_labels, z_loss)
            total = total + part
        return total


def build(settings: NextToken) -> NextTokenObjective:
    """The objective of these settings."""
    return NextTokenObjective(settings)


def _part(model: NextTokenModel, hidden: Tensor, labels: Tensor, z_loss: float) -> Tensor:
    """() nats of states (N, C) and labels (N,)."""
    logits = model.head(hidden)
    # Sums of many small numbers: bfloat16 logits are widened before the logarithm, not after.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nats = functional.cross_entropy(logits, labels, ignore_index=NO_TARGET, reduction="sum")
    if z_loss:
        partitions = torch.logsumexp(logits, dim=-1).square()
        nats = nats + z_loss * partitions.masked_fill(labels == NO_TARGET, 0.0).sum()
    return nats
