"""What of each chat a batch row can hold: which tokens are trained, which are cut off or left out, to the token. Free of torch.

A row of T positions holds T + 1 tokens: the last one is only a target. T is `sequence_tokens` here.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ml_playground.data_pipeline.sampling.examples import Examples

Truncation = Literal["error", "drop", "left", "right", "split"]

TOKENS_AT_ONCE = 1 << 22
"""Weights that are looked at together: 32 MB of sums."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The pieces of a split that are trained on, in the order of their chats, and what becomes of all other tokens. P pieces."""

    rows: NDArray[np.int64]
    """(P,) the chat of each."""
    firsts: NDArray[np.int64]
    """(P,) its first token, counted over the split."""
    lengths: NDArray[np.int64]
    """(P,) its tokens: 2 at least, for the first one is no target."""
    targets: NDArray[np.int64]
    """(P,) targets among them: 1 at least."""
    weighted: bool
    """Whether some target weighs other than 1."""
    tokens: int
    """Of all chats."""
    truncated: int
    """Tokens cut off chats that are too long."""
    dropped: int
    """Tokens of chats, and of pieces, that are left out: too long, or without a target."""

    @property
    def positions(self) -> NDArray[np.int64]:
        """(P,) how many each takes of a batch row."""
        return self.lengths - 1

    def tokens_of(self, examples: Examples, piece: int) -> NDArray[np.uint16 | np.uint32]:
        """The ids of a piece."""
        return examples.tokens[self.firsts[piece] : self.firsts[piece] + self.lengths[piece]]

    @property
    def trained(self) -> int:
        """Targets of all."""
        return int(self.targets.sum())

    @property
    def masked(self) -> int:
        """Tokens that are read and never a target."""
        return self.tokens - self.trained - self.truncated - self.dropped


def too_long(examples: Examples, sequence_tokens: int) -> NDArray[np.int64]:
    """The chats that no row holds, the longest first."""
    lengths = examples.lengths
    found = np.flatnonzero(lengths > sequence_tokens + 1)
    return found[np.argsort(-lengths[found], kind="stable")]


def cut(
    examples: Examples, sequence_tokens: int, truncation: Truncation, *, tokens_at_once: int = TOKENS_AT_ONCE
) -> Cut:
    """The pieces of chats that rows of T positions can hold.

    Each token is a target in one piece at most. What is left without a target teaches nothing and is left out.

    Args:
        examples: The chats.
        sequence_tokens: T.
        truncation: What becomes of those of more than T + 1 tokens; none of these may be there for `error`.
        tokens_at_once: Weights that are looked at together.
    """
    lengths, starts = examples.lengths, examples.starts
    most = sequence_tokens + 1
    long = lengths > most
    if truncation == "error" and long.any():
        raise ValueError(f"{int(long.sum())} chats are longer than {most} tokens")
    usable = (lengths > 1) & ~(long & (truncation == "drop"))
    rows = np.flatnonzero(usable)
    firsts, kept = starts[rows], lengths[rows]
    # A token belongs to the piece in which it is a target; the first of a chat belongs to its first piece.
    owned = kept
    truncated = 0
    if truncation == "split":
        pieces = -(-(kept - 1) // sequence_tokens)
        number: NDArray[np.int64] = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        whole = np.repeat(kept, pieces)
        rows: NDArray[np.int64] = np.repeat(rows, pieces)
        firsts: NDArray[np.int64] = np.repeat(firsts, pieces) + number * sequence_tokens
        kept = np.minimum(most, whole - number * sequence_tokens)
        owned = kept - (number > 0)
    elif truncation in ("left", "right"):
        excess = np.maximum(kept - most, 0)
        truncated = int(excess.sum())
        firsts = firsts + excess if truncation == "left" else firsts
        kept = owned = kept - excess
    targets, weighted = _targets_of(examples.token_weights, firsts, kept, tokens_at_once)
    taught = targets > 0
    tokens = len(examples.tokens)
    return Cut(
        rows=rows[taught],
        firsts=firsts[taught],
        lengths=kept[taught],
        targets=targets[taught],
        weighted=weighted,
        tokens=tokens,
        truncated=truncated,
        dropped=tokens - truncated - int(owned[taught].sum()),
    )


def _targets_of(
    weights: NDArray[np.float32], firsts: NDArray[np.int64], lengths: NDArray[np.int64], tokens_at_once: int
) -> tuple[NDArray[np.int64], bool]:
    """Targets of each piece, (P,), and whether any weighs other than 1; one pass over the weights, a part at a time."""
    targets = np.zeros(len(firsts), dtype=np.int64)
    ends = firsts + lengths
    weighted, begin = False, 0
    while begin < len(firsts):
        low = int(firsts[begin])
        end = max(begin + 1, int(np.searchsorted(ends, low + tokens_at_once, side="right")))
        part = weights[low : int(ends[end - 1])]
        among = part > 0
        counted = np.concatenate([[0], np.cumsum(among)])
        targets[begin:end] = counted[ends[begin:end] - low] - counted[firsts[begin:end] + 1 - low]
        weighted = weighted or bool((part[among] != 1).any())
        begin = end
    return targets, weighted
