"""The chats of a split without files: as ChatRows gives them, from plain lists."""

from collections.abc import Sequence

import numpy as np


class ChatsInMemory:
    """Each token is its own place in the split, so that a label says which token it is."""

    def __init__(self, weights: Sequence[Sequence[float]]) -> None:
        """`weights`: of each token of each chat."""
        self.lengths = np.array([len(row) for row in weights], dtype=np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.token_weights = np.array([weight for row in weights for weight in row], dtype=np.float32)
        self.tokens = np.arange(len(self.token_weights), dtype=np.uint32)

    def __len__(self) -> int:
        return len(self.lengths)

    def check(self) -> None:
        """Nothing can change."""
