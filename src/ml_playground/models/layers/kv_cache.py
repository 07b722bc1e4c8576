"""Keys and values of all that a model has seen, in memory reserved once.

B rows, S reserved positions, K key heads, D features of a head, t new tokens.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ml_playground.core.error_handling import DataError
from ml_playground.models.layers.bigram import NO_TOKEN


@dataclass(slots=True)
class KeyValueCache:
    """The state of a generation."""

    blocks: tuple[Tensor, ...]
    """For each block (B, 2 K, S, D): its keys, then its values, so that one copy stores both."""
    starts: Tensor | None
    """(B,) padding positions at the left of each row; None: no padding anywhere."""
    last: Tensor
    """(B,) the token seen last; NO_TOKEN before the first."""
    seen: int = 0
    """Positions filled so far, padding included."""

    @classmethod
    def empty(
        cls,
        blocks: int,
        shape: tuple[int, int, int, int],
        starts: Tensor | None,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Self:
        """Nothing seen yet; `shape` is (B, K, S, D) of each block's keys, and of its values."""
        rows, key_heads, length, width = shape
        # Zeros, not uninitialised memory: a masked key has weight 0, and 0 times a stray NaN would still be NaN.
        both = [torch.zeros(rows, 2 * key_heads, length, width, dtype=dtype, device=device) for _ in range(blocks)]
        last = torch.full((rows,), NO_TOKEN, device=device)
        return cls(tuple(both), None if starts is None else starts.to(device), last)

    @property
    def rows(self) -> int:
        """B."""
        return self.blocks[0].shape[0]

    @property
    def length(self) -> int:
        """S."""
        return self.blocks[0].shape[2]

    def admit(self, ids: Tensor) -> None:
        """Check that `ids` (B, t) fit behind what was seen.

        Raises:
            DataError: Another number of rows, or more positions than reserved.
        """
        rows, new = ids.shape
        if rows != self.rows:
            raise DataError(f"The cache was made for {self.rows} rows, but {rows} rows of ids came; make a new cache.")
        if new < 1:
            raise DataError("A step needs at least one token in each row, got none.")
        if self.seen + new > self.length:
            raise DataError(
                f"The cache reserves {self.length} positions and has seen {self.seen}, so {new} more do not fit; "
                f"reserve at least {self.seen + new}."
            )

    def append(self, block: int, both: Tensor) -> tuple[Tensor, Tensor]:
        """Store a block's new keys and values, (B, t, 2 K, D); keys and values up to here, (B, K, seen + t, D), come back."""
        new, heads = both.shape[1:3]
        stored = self.blocks[block]
        stored.narrow(2, self.seen, new).copy_(both.transpose(1, 2))
        keys, values = torch.split(stored.narrow(2, 0, self.seen + new), heads // 2, dim=1)
        return keys, values

    def previous_of(self, ids: Tensor) -> Tensor:
        """(B, t) -> (B, t): the token before each of the new ones; the first real one of a row has none."""
        previous = torch.cat([self.last[:, None], ids[:, :-1]], dim=1)
        if self.starts is None:
            return previous
        absolute = torch.arange(self.seen, self.seen + ids.shape[1], device=ids.device)
        return previous.masked_fill(absolute <= self.starts[:, None], NO_TOKEN)

    def positions(self, new: int) -> Tensor:
        """(t,) or, with padding, (B, t): positions of the next `new` tokens counted from each row's first real one; padding has 0."""
        absolute = torch.arange(self.seen, self.seen + new, device=self.blocks[0].device)
        return absolute if self.starts is None else (absolute - self.starts[:, None]).clamp_min(0)

    def mask(self, new: int, dtype: torch.dtype, *, queries: int) -> Tensor | None:
        """What is added to the scores of the next `new` tokens, for attention that stacks `queries` heads of a group.

        (queries t, seen + t), or (B, 1, queries t, seen + t) with padding; for one new token 1 in place of queries t. None
        where every key is visible to every query. A padding position sees itself, for a softmax over nothing is NaN.
        """
        if new == 1 and self.starts is None:
            return None
        device = self.blocks[0].device
        query = torch.arange(self.seen, self.seen + new, device=device)[:, None]
        key = torch.arange(self.seen + new, device=device)
        visible = key <= query
        if self.starts is not None:
            real = key >= self.starts[:, None, None]
            visible = ((visible & real) | (key == query))[:, None]
        if new > 1 and queries > 1:
            visible = torch.cat([visible] * queries, dim=-2)
        return torch.zeros((), dtype=dtype, device=device).where(visible, float("-inf"))
