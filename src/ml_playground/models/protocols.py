"""What a model offers, and what draws from it. B rows, T tokens, C width, V vocabulary."""

from typing import Any, Protocol

import torch
from torch import Tensor

from ml_playground.models.layers.packed_linear import Precision


class NextTokenModel(Protocol):
    """A torch.nn.Module that gives, for each position, logits of the next token from it and what came before."""

    @property
    def vocab_size(self) -> int:
        """V."""
        ...

    @property
    def max_context(self) -> int | None:
        """Longest context in tokens; None: unbounded."""
        ...

    def __call__(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of ids (B, T)."""
        ...

    def hidden(self, ids: Tensor) -> Tensor:
        """Final normalised states (B, T, C), so that a loss may apply `head` in chunks."""
        ...

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of states (..., C)."""
        ...

    def decoder(self, precision: Precision) -> "Decoder":
        """A snapshot of this model for drawing tokens, its weights at a precision.

        Raises:
            ConfigError: The precision does not work where the model is.
        """
        ...


class Decoder(Protocol):
    """Draws on a cache: gives logits of the next token of rows whose former tokens it has seen."""

    @property
    def vocab_size(self) -> int:
        """V."""
        ...

    @property
    def max_context(self) -> int | None:
        """Longest context in tokens; None: unbounded."""
        ...

    @property
    def device(self) -> torch.device:
        """Where ids are taken and logits are given."""
        ...

    def new_state(self, rows: int, length: int, starts: Tensor | None = None) -> Any:
        """An empty cache for `rows` rows of at most `length` positions.

        Args:
            rows: B.
            length: Positions to reserve, padding included.
            starts: (B,) number of padding positions at the left of each row, for prompts of unequal length; none: no padding.
                Padding is never attended to, and positions count from the first real token.
        """
        ...

    def step(self, ids: Tensor, state: Any) -> Tensor:
        """Logits (B, V) after the last of `ids` (B, t), which follow what `state` has seen; `state` advances in place."""
        ...

    def logits(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of ids (B, T), without a cache: what a precision costs is measured with it."""
        ...
