"""Settings of the objectives; free of torch."""

from typing import Literal

from ml_playground.configuration.base import Component, NonNegative


class NextToken(Component):
    """Cross-entropy of each next token, in nats."""

    kind: Literal["next_token"] = "next_token"
    """Predict the next token."""
    z_loss: NonNegative = 0.0
    """Weight of the squared log-partition, which keeps logits small; 0 is off. Not part of the reported evaluation loss."""
