"""Settings of the objectives; free of torch."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ml_playground.configuration.base import Direction, Modality, NonNegative, ObjectiveSettings


class NextToken(ObjectiveSettings):
    """Cross-entropy of each next token, in nats."""

    kind: Literal["next_token"] = "next_token"
    """Predict the next token."""
    z_loss: NonNegative = 0.0
    """Weight of the squared log-partition, which keeps logits small; 0 is off. Not part of the reported evaluation loss."""


class Classify(ObjectiveSettings):
    """Cross-entropy of the class of each image, in nats."""

    modality: ClassVar[Modality | None] = "images"
    metrics: ClassVar[Mapping[str, Direction]] = {"loss": "lower", "accuracy": "higher"}

    kind: Literal["classify"] = "classify"
    """Say which class an image belongs to."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target spread over all classes, so that nobody is ever sure; 0 is off. Not part of the evaluation loss."""
