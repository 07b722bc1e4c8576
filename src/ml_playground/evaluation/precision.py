"""What weights of a lower precision cost, on text that the model was not trained on."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from ml_playground.data_pipeline.batches import NO_TARGET
from ml_playground.evaluation.loss import data_of
from ml_playground.models.protocols import Decoder
from ml_playground.sampling.runner import LoadedRun

TARGETS = 1024
"""Enough for the difference, in which the difficulty of the text cancels; reading them takes as long as drawing a text."""


@dataclass(frozen=True, slots=True)
class PrecisionCost:
    """Nats per token of the same targets, by the model and by what draws from it."""

    targets: int
    full_loss: float
    loss: float


def cost_of_precision(run: LoadedRun, decoder: Decoder, *, split: str = "val", targets: int = TARGETS) -> PrecisionCost:
    """Loss of a decoder over the first windows of a split, against the model in float32.

    Raises:
        DataError: The data are not there, or they are others.
    """
    full = lower = 0.0
    counted = 0
    for batch in data_of(run).split(split):
        for row in range(len(batch.ids)):
            with torch.inference_mode():
                # At the end of a split a window is padded: nothing there is a target.
                reads = int((batch.labels[row] != NO_TARGET).nonzero().max()) + 1
                ids, labels = batch.ids[row : row + 1, :reads], batch.labels[row, :reads]
                full += _nats(run.model(ids.to(run.execution.device))[0], labels)
                lower += _nats(decoder.logits(ids.to(decoder.device))[0], labels)
            counted += int((labels != NO_TARGET).sum())
            if counted >= targets:
                return PrecisionCost(counted, full / counted, lower / counted)
    return PrecisionCost(counted, full / counted, lower / counted)


def _nats(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float(functional.cross_entropy(logits.float().cpu(), labels, ignore_index=NO_TARGET, reduction="sum"))
