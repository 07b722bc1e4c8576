"""Keys and values of what a model has seen and may still attend to, in memory reserved once.

B rows, S reserved positions, K key heads, D features of a head, t new tokens.
"""

from collections.abc import Sequence
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
    """For each block (B, 2 K, S, D): its keys, then its values, so that one copy stores both. Where it has a window of R < S
    tokens, (B, 2 K, R, D): a ring, in which position p lies at p % R."""
    windows: tuple[int | None, ...]
    """R of each block; None where it keeps all."""
    length: int
    """S."""
    starts: Tensor | None
    """(B,) padding positions at the left of each row; None: no padding anywhere."""
    last: Tensor
    """(B,) the token seen last; NO_TOKEN before the first."""
    seen: int = 0
    """Positions filled so far, padding included."""

    @classmethod
    def empty(
        cls,
        windows: Sequence[int | None],
        shape: tuple[int, int, int, int],
        starts: Tensor | None,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Self:
        """Nothing seen yet; `shape` is (B, K, S, D) of each block's keys, and of its values, before a window cuts it."""
        rows, key_heads, length, width = shape
        cut = tuple(None if window is None or window >= length else window for window in windows)
        # Zeros, not uninitialised memory: a masked key has weight 0, and 0 times a stray NaN would still be NaN.
        both = [torch.zeros(rows, 2 * key_heads, window or length, width, dtype=dtype, device=device) for window in cut]
        last = torch.full((rows,), NO_TOKEN, device=device)
        return cls(tuple(both), cut, length, None if starts is None else starts.to(device), last)

    @property
    def rows(self) -> int:
        """B."""
        return self.blocks[0].shape[0]

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

    def select(self, rows: Tensor) -> None:
        """Hold these rows, (K,), in this order: beam search goes on from one in several ways, and leaves others."""
        self.blocks = tuple(block.index_select(0, rows) for block in self.blocks)
        self.starts = None if self.starts is None else self.starts.index_select(0, rows)
        self.last = self.last.index_select(0, rows)

    def append(self, block: int, both: Tensor) -> tuple[Tensor, Tensor]:
        """Store a block's new keys and values, (B, t, 2 K, D); those at `_keys` come back, (B, K, keys, D) each."""
        new, heads = both.shape[1:3]
        stored, fresh = self.blocks[block], both.transpose(1, 2)
        if self.windows[block] is None:
            stored.narrow(2, self.seen, new).copy_(fresh)
            found = stored.narrow(2, 0, self.seen + new)
        else:
            found = self._append_to_ring(stored, fresh)
        keys, values = torch.split(found, heads // 2, dim=1)
        return keys, values

    def _append_to_ring(self, ring: Tensor, fresh: Tensor) -> Tensor:
        """Store (B, 2 K, t, D) over the oldest; what the new tokens may see comes back."""
        size, new = ring.shape[2], fresh.shape[2]
        if new == 1:
            ring.narrow(2, self.seen % size, 1).copy_(fresh)
            return ring.narrow(2, 0, min(self.seen + 1, size))
        before = torch.arange(self._oldest(size), self.seen, device=ring.device) % size
        found = torch.cat([ring.index_select(2, before), fresh], dim=2)
        stay = min(new, size)
        places = torch.arange(self.seen + new - stay, self.seen + new, device=ring.device) % size
        ring.index_copy_(2, places, fresh.narrow(2, new - stay, stay))
        return found

    def _oldest(self, window: int) -> int:
        """The first position that the next token may see."""
        return max(0, self.seen - window + 1)

    def _keys(self, new: int, window: int | None) -> Tensor:
        """(keys,) positions of the keys that a block with this window gives the next `new` tokens, in its order."""
        device = self.blocks[0].device
        if window is None:
            return torch.arange(self.seen + new, device=device)
        if new > 1:
            return torch.arange(self._oldest(window), self.seen + new, device=device)
        slots = torch.arange(min(self.seen + 1, window), device=device)
        return self.seen - (self.seen - slots) % window

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

    def mask(self, new: int, dtype: torch.dtype, *, queries: int, window: int | None) -> Tensor | None:
        """What is added to the scores of the next `new` tokens, for attention that stacks `queries` heads of a group.

        (queries t, keys), or (B, 1, queries t, keys) with padding; for one new token 1 in place of queries t. None where every
        key that a block of this window gives is visible to every query. A padding position sees itself, for a softmax over
        nothing is NaN.
        """
        if new == 1 and self.starts is None:
            return None
        device = self.blocks[0].device
        query = torch.arange(self.seen, self.seen + new, device=device)[:, None]
        key = self._keys(new, window)
        visible = key <= query if window is None else (key <= query) & (key > query - window)
        if self.starts is not None:
            real = key >= self.starts[:, None, None]
            visible = ((visible & real) | (key == query))[:, None]
        if new > 1 and queries > 1:
            visible = torch.cat([visible] * queries, dim=-2)
        return torch.zeros((), dtype=dtype, device=device).where(visible, float("-inf"))
