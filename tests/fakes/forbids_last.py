"""A logits processor of ten lines: by what a row has drawn, one id is forbidden and another made likely."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class ForbidsLast:
    """No id twice in a row; the id that as many tokens as were drawn name becomes likelier."""

    label = "no id twice"

    def __init__(self, reward: float = 1.0) -> None:
        self.reward = reward

    def __call__(self, logits: Tensor, drawn: Sequence[Sequence[int]]) -> Tensor:
        """(R, V) -> (R, V)."""
        logits = logits.clone()
        for row, ids in enumerate(drawn):
            logits[row, len(ids) % logits.shape[1]] += self.reward
            if ids:
                logits[row, ids[-1]] = -torch.inf
        return logits

    def statistics(self, drawn: Sequence[int]) -> Mapping[str, Any]:
        """How often it had a say."""
        return {"hits": max(0, len(drawn) - 1)}


class ForbidsAll:
    """Leaves nothing to draw."""

    label = "nothing"

    def __call__(self, logits: Tensor, drawn: Sequence[Sequence[int]]) -> Tensor:
        """Minus infinity everywhere."""
        return torch.full_like(logits, -torch.inf)

    def statistics(self, drawn: Sequence[int]) -> Mapping[str, Any]:
        """None."""
        return {}
