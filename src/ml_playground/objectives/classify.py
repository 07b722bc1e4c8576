"""Cross-entropy of the class of each image. B images, K classes."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from ml_playground.data_pipeline.batches import ImageBatch
from ml_playground.models.protocols import Classifier
from ml_playground.objectives.settings import Classify


class ClassifyObjective:
    """Nats of the right class of every image."""

    unit = "image"

    def __init__(self, settings: Classify) -> None:
        self._label_smoothing = settings.label_smoothing

    def targets(self, batch: ImageBatch) -> float:
        """Images."""
        return float(batch.rows)

    def loss_sum(self, model: Classifier, batch: ImageBatch) -> Tensor:
        """() nats over the images, with smoothed labels if they are; float32, or float64 for such a model."""
        return functional.cross_entropy(
            _logits(model, batch), batch.labels, reduction="sum", label_smoothing=self._label_smoothing
        )

    @torch.no_grad()
    def sums(self, model: Classifier, batch: ImageBatch) -> Mapping[str, Tensor]:
        """Nats of the labels as they are, and how many images are right, each with the images: (2,)."""
        logits = _logits(model, batch)
        count = logits.new_tensor(batch.rows)
        nats = functional.cross_entropy(logits, batch.labels, reduction="sum")
        right = (logits.argmax(1) == batch.labels).sum().to(logits.dtype)
        return {"loss": torch.stack([nats, count]), "accuracy": torch.stack([right, count])}


def build(settings: Classify) -> ClassifyObjective:
    """The objective of these settings."""
    return ClassifyObjective(settings)


def _logits(model: Classifier, batch: ImageBatch) -> Tensor:
    """(B, K), wide enough for sums of many small numbers."""
    logits = model(batch.images)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
