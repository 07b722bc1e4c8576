"""Direct preference optimisation: a model learns which of two answers is better, without a model of rewards. B pairs.

The reward of an answer is beta times the log-ratio of its probability by the model and by the reference; a pair's margin is the difference
of both rewards. Source: Rafailov et al. 2023, arXiv 2305.18290, equation 7; with label smoothing, Mitchell 2023, "A note on DPO with noisy
preferences"; `ipo`: Azar et al. 2023, arXiv 2310.12036, equation 17, of log-ratios per target, as its authors compute it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ml_playground.data_pipeline.batches import NO_TARGET, PairBatch
from ml_playground.models.protocols import NextTokenModel
from ml_playground.objectives.log_probabilities import row_likelihoods
from ml_playground.objectives.settings import Dpo


class DpoObjective:
    """What a model still lacks to tell better answers from worse ones, summed over pairs."""

    unit = "pair"

    def __init__(self, settings: Dpo) -> None:
        self._settings = settings

    def targets(self, batch: PairBatch) -> float:
        """Pairs."""
        return float(batch.rows)

    def loss_sum(self, model: NextTokenModel, batch: PairBatch) -> Tensor:
        """() summed over the pairs: nats, or squares for `ipo`.

        What the model adds of its own (`States.auxiliary`) is in the gradient and not in the value, once for each pair.
        """
        compared = _compared(model, batch)
        total = self._losses(compared, self._settings.label_smoothing).sum()
        if compared.auxiliary is None:
            return total
        added = compared.auxiliary.sum() / 2
        return total + (added - added.detach())

    @torch.no_grad()
    def sums(self, model: NextTokenModel, batch: PairBatch) -> Mapping[str, Tensor]:
        """Loss without label smoothing, pairs whose better answer has the higher reward (a tie is half), margins: (2,), with the pairs."""
        compared = _compared(model, batch)
        count = compared.ratios.new_tensor(batch.rows)
        right = (compared.ratios.sign() + 1) / 2
        return {
            "loss": torch.stack([self._losses(compared, 0.0).sum(), count]),
            "accuracy": torch.stack([right.sum(), count]),
            "margin": torch.stack([self._settings.beta * compared.ratios.sum(), count]),
        }

    def _losses(self, compared: "Compared", smoothing: float) -> Tensor:
        """(B,) of each pair."""
        beta = self._settings.beta
        if self._settings.variant == "ipo":
            return (compared.ratios_per_target - 1 / (2 * beta)).square()
        margins = beta * compared.ratios
        losses = -functional.logsigmoid(margins)
        if not smoothing:
            return losses
        return (1 - smoothing) * losses - smoothing * functional.logsigmoid(-margins)


class Compared(NamedTuple):
    """Of each pair, how much likelier the better answer has become than the worse one since the reference."""

    ratios: Tensor
    """(B,) nats."""
    ratios_per_target: Tensor
    """(B,) the same of means over each answer's targets."""
    auxiliary: Tensor | None
    """(2 B,) what the model adds of its own."""


def build(settings: Dpo) -> DpoObjective:
    """The objective of these settings."""
    return DpoObjective(settings)


def _compared(model: NextTokenModel, batch: PairBatch) -> Compared:
    found = row_likelihoods(model, batch.tokens)
    log_ratios = found.log_probabilities - batch.reference
    counted = batch.tokens.labels != NO_TARGET if batch.tokens.weights is None else batch.tokens.weights
    means = log_ratios / counted.sum(1)
    return Compared(log_ratios[::2] - log_ratios[1::2], means[::2] - means[1::2], found.auxiliary)
