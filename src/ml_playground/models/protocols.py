"""What a model offers. B rows, T tokens, C width, V vocabulary."""

from typing import Any, Protocol

from torch import Tensor


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
