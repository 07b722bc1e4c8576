"""A next-token model of twenty lines whose logits depend on every token it has seen, on their order and on their number."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class HistoryState:
    """What a row has seen so far; the positions that are padding are not among it."""

    total: Tensor
    """(B, C)."""
    seen: int
    length: int
    starts: Tensor
    """(B,)."""

    def select(self, rows: Tensor) -> None:
        """Hold these rows, in this order."""
        self.total, self.starts = self.total[rows], self.starts[rows]


class HistoryModel(nn.Module):
    """Logits from the current embedding, its position and the mean of all embeddings before; in float64, so that laws are exact."""

    def __init__(self, vocab_size: int, max_context: int | None, *, width: int = 8, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.vocab_size = vocab_size
        self.max_context = max_context
        self.dropout = nn.Dropout(0.5)
        self.embedding = nn.Parameter(torch.randn(vocab_size, width, generator=generator, dtype=torch.float64))
        self.positions = nn.Parameter(torch.randn(512, width, generator=generator, dtype=torch.float64))
        self.out = nn.Parameter(2 * torch.randn(width, vocab_size, generator=generator, dtype=torch.float64))
        self.forwards = 0
        """Calls so far: how often the model was run."""

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        return self.head(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """(B, T, C)."""
        self.forwards += 1
        state = self.new_state(ids.shape[0], ids.shape[1])
        return torch.stack([self._one(ids[:, t], state) for t in range(ids.shape[1])], dim=1)

    def head(self, hidden: Tensor) -> Tensor:
        """(..., V)."""
        return self.dropout(hidden) @ self.out

    def decoder(self, precision: str) -> "HistoryModel":
        """Itself: it has one precision."""
        return self

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.embedding.device

    def logits(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        return self(ids)

    def new_state(self, rows: int, length: int, starts: Tensor | None = None) -> HistoryState:
        """Nothing seen yet."""
        if self.max_context is not None and length > self.max_context:
            raise ValueError(f"{length} positions do not fit in a context of {self.max_context}")
        none = torch.zeros(rows, dtype=torch.int64)
        return HistoryState(
            self.embedding.new_zeros(rows, self.embedding.shape[1]), 0, length, none if starts is None else starts
        )

    def step(self, ids: Tensor, state: HistoryState) -> Tensor:
        """Logits (B, V) after the last of ids (B, t)."""
        self.forwards += 1
        last = [self._one(ids[:, t], state) for t in range(ids.shape[1])][-1]
        return self.head(last)

    def _one(self, ids: Tensor, state: HistoryState) -> Tensor:
        if state.seen >= state.length:
            raise ValueError(f"the cache of {state.length} positions is full")
        position = (state.seen - state.starts).clamp(min=0)
        real = (state.seen >= state.starts)[:, None]
        now = self.embedding[ids]
        mean = state.total / position.clamp(min=1)[:, None]
        hidden = torch.tanh(now + mean + self.positions[position])
        state.total = state.total + torch.where(real, now + 0.1 * hidden, torch.zeros_like(now))
        state.seen += 1
        return hidden
