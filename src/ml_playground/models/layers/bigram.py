"""Embeddings of token pairs. B rows, T tokens, C width, V vocabulary.

Source: the hashed bigram table of modded-nanogpt's speed runs (Keller Jordan et al., 2024 to 2026), here exact where it fits.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

NO_TOKEN = -1
"""Stands before the first token of a row; pairs with it have rows of their own."""


class BigramEmbedding(nn.Module):
    """A table of embeddings of (previous, current) pairs, so that the blocks need not learn the commonest statistics."""

    def __init__(self, rows: int, width: int, *, vocab_size: int) -> None:
        super().__init__()
        self.rows, self.vocab_size = rows, vocab_size
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor, previous: Tensor) -> Tensor:
        """(B, T) and the tokens before them, NO_TOKEN for none, (B, T) -> (B, T, C)."""
        return functional.embedding(pair_rows(ids, previous, vocab_size=self.vocab_size, rows=self.rows), self.weight)


def previous_of(ids: Tensor, positions: Tensor | None = None) -> Tensor:
    """(B, T) -> (B, T): the token before each; the first of a row has none, nor has that at position 0 of its document."""
    before = functional.pad(ids[:, :-1], (1, 0), value=NO_TOKEN)
    return before if positions is None else before.masked_fill(positions == 0, NO_TOKEN)


def pair_rows(ids: Tensor, previous: Tensor, *, vocab_size: int, rows: int) -> Tensor:
    """The row of each pair: one of its own if all (V + 1) V pairs fit, else by a hash.

    The hash is MurmurHash3's finaliser on the pair. No product exceeds 63 bits, so it is the same on every device.

    Source: Appleby 2011, MurmurHash3, fmix32.
    """
    if rows >= (vocab_size + 1) * vocab_size:
        return (previous + 1) * vocab_size + ids
    mixed = (previous + 1) * 0x85EBCA6B
    mixed = ((mixed ^ (mixed >> 15) ^ ids) & 0x7FFFFFFF) * 0xC2B2AE35
    return (mixed ^ (mixed >> 16)) % rows
