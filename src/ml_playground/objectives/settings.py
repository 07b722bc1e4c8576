"""Settings of the objectives; free of torch."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ml_playground.configuration.base import Direction, Modality, NonNegative, ObjectiveSettings, Positive


class NextToken(ObjectiveSettings):
    """Cross-entropy of each next token, in nats."""

    kind: Literal["next_token"] = "next_token"
    """Predict the next token."""
    z_loss: NonNegative = 0.0
    """Weight of the squared log-partition, which keeps logits small; 0 is off. Not part of the reported evaluation loss."""


class Dpo(ObjectiveSettings):
    """Direct preference optimisation: better answers become likelier than worse ones, by comparison with a reference model."""

    pairs: ClassVar[bool] = True
    metrics: ClassVar[Mapping[str, Direction]] = {"loss": "lower", "accuracy": "higher", "margin": "higher"}

    kind: Literal["dpo"] = "dpo"
    """Prefer the better answer."""
    beta: Positive = 0.1
    """How dear it is to leave the reference: the larger, the nearer the model stays."""
    variant: Literal["sigmoid", "ipo"] = "sigmoid"
    """`sigmoid`: nats of the preference; `ipo`: squared distance to a margin of 1 / (2 beta), per target, which does not grow for ever."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of preferences that are thought to be the wrong way round; of `sigmoid` alone. Not part of the reported evaluation loss."""

    @model_validator(mode="after")
    def _smoothing_is_of_the_sigmoid(self) -> "Dpo":
        if self.variant == "ipo" and self.label_smoothing:
            raise ValueError(
                f"label_smoothing = {self.label_smoothing:g} does not go with variant = 'ipo', which has no label to smooth; "
                "set label_smoothing = 0, or variant = 'sigmoid'"
            )
        return self


class Classify(ObjectiveSettings):
    """Cross-entropy of the class of each image, in nats."""

    modality: ClassVar[Modality | None] = "images"
    metrics: ClassVar[Mapping[str, Direction]] = {"loss": "lower", "accuracy": "higher"}

    kind: Literal["classify"] = "classify"
    """Say which class an image belongs to."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target spread over all classes, so that nobody is ever sure; 0 is off. Not part of the evaluation loss."""
