"""What looks at files of chats while they are hashed: weights that are none, lines that are missing."""

import numpy as np

from ml_playground.data_pipeline.storage.token_file import WEIGHT_TYPE


class Weights:
    """Looks at the weights of a split: numbers from 0 on, so many of them above it as there are targets."""

    def __init__(self, trained: int) -> None:
        self._trained = trained
        self._seen = 0
        self._above = 0
        self._wrong = ""

    @property
    def problem(self) -> str:
        """The first weight that is none, or a wrong number of targets, in words; empty where all is well."""
        if not self._wrong and self._above != self._trained:
            return f"{self._above} of its weights are above 0, where {self._trained} tokens are targets"
        return self._wrong

    def __call__(self, block: bytes) -> None:
        """The next bytes, whole numbers."""
        weights = np.frombuffer(block, WEIGHT_TYPE)
        good = np.isfinite(weights) & (weights >= 0)
        if not self._wrong and not good.all():
            place = int(np.argmin(good))
            self._wrong = f"token {self._seen + place} has the weight {weights[place]}"
        self._above += int(np.count_nonzero(weights > 0))
        self._seen += len(weights)


class Lines:
    """Looks at the chats of a split: a line for each row."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._seen = 0

    @property
    def problem(self) -> str:
        """How many lines there are, if these are not the rows; empty where all is well."""
        return f"it has {self._seen} lines for {self._rows} rows" if self._seen != self._rows else ""

    def __call__(self, block: bytes) -> None:
        """The next bytes."""
        self._seen += block.count(b"\n")
