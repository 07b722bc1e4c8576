"""Feed-forward layers for generation, their matrices packed. N rows, C width, I inner width, E experts, k of them for each row."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from ml_playground.models.layers.experts import ExpertFeedForward, choose
from ml_playground.models.layers.feed_forward import FeedForward, GatedFeedForward
from ml_playground.models.layers.packed_linear import Linear, Precision, packed


def gated(inner: Tensor) -> Tensor:
    """(N, 2 I), gate beside up -> (N, I)."""
    gate, up = inner.chunk(2, dim=-1)
    return functional.silu(gate) * up


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu2": lambda x: functional.relu(x).square_(),
    "swiglu": gated,
}
"""In one operation where torch has one; there is no way back to prepare for."""


class PackedFeedForward:
    """Two products and a nonlinearity between."""

    def __init__(self, layer: FeedForward | GatedFeedForward, kind: str, precision: Precision) -> None:
        self._up, self._activation = packed_up(layer, precision), ACTIVATIONS[kind]
        self._down = packed(layer.down.weight, layer.down.bias, precision)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C) -> (N, C)."""
        return self._down(self._activation(self._up(x)))


class PackedExperts:
    """Those experts that a row chose, each with all rows that did. The router keeps the model's own type."""

    def __init__(self, layer: ExpertFeedForward, kind: str, precision: Precision) -> None:
        self._router, self._used = layer.router, layer.used
        self._experts = [PackedFeedForward(cast(FeedForward, expert), kind, precision) for expert in layer.experts]

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C) -> (N, C)."""
        choices = choose(self._router(x), self._used)
        order = choices.order()
        parts = torch.split(x[order // self._used], choices.sizes(len(self._experts)))
        # Most experts have no row where few rows are drawn at once.
        found = [expert(part) for expert, part in zip(self._experts, parts, strict=True) if len(part)]
        results = torch.cat(found)[order.argsort()].view(len(x), self._used, -1)
        return (results * choices.shares.to(results.dtype).unsqueeze(-1)).sum(1)


def packed_feed_forward(
    layer: FeedForward | GatedFeedForward | ExpertFeedForward, kind: str, precision: Precision
) -> Callable[[Tensor], Tensor]:
    """A layer of the kind that `Gpt.feed_forward` names, or its experts, laid out for drawing: (N, C) -> (N, C)."""
    if isinstance(layer, ExpertFeedForward):
        return PackedExperts(layer, kind, precision)
    return PackedFeedForward(layer, kind, precision)


def packed_up(layer: FeedForward | GatedFeedForward, precision: Precision) -> Linear:
    """The matrices that read the residual stream, gate above up, as one product."""
    parts = [layer.gate, layer.up] if isinstance(layer, GatedFeedForward) else [layer.up]
    biases: list[Tensor] = [part.bias for part in parts if cast(Tensor | None, part.bias) is not None]
    return packed(torch.cat([part.weight for part in parts]), torch.cat(biases) if biases else None, precision)
