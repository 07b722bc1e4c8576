"""The layer that works on each token alone."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_playground.models.settings import Gpt


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)²; source: So et al. 2021, arXiv 2109.08668."""
    if not torch.is_grad_enabled():
        return functional.relu(x).square()
    return cast(Tensor, _SquaredRelu.apply(x))


class _SquaredRelu(torch.autograd.Function):
    """The gradient 2 max(x, 0) g in two passes over memory; autograd would make five."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """The square of the positive part."""
        positive = functional.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Zero where x is negative, for so is its positive part."""
        (positive,) = ctx.saved_tensors
        return (grad * positive).mul_(2)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu2": squared_relu,
}


class FeedForward(nn.Module):
    """C -> inner width -> C with a nonlinearity between."""

    def __init__(self, settings: Gpt) -> None:
        super().__init__()
        self.up = nn.Linear(settings.n_embd, settings.inner_width, bias=settings.bias)
        self.down = nn.Linear(settings.inner_width, settings.n_embd, bias=settings.bias)
        self.activation = ACTIVATIONS[settings.feed_forward]

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.down(self.activation(self.up(x)))


class GatedFeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)); source: Shazeer 2020, arXiv 2002.05202."""

    def __init__(self, settings: Gpt) -> None:
        super().__init__()
        self.gate = nn.Linear(settings.n_embd, settings.inner_width, bias=settings.bias)
        self.up = nn.Linear(settings.n_embd, settings.inner_width, bias=settings.bias)
        self.down = nn.Linear(settings.inner_width, settings.n_embd, bias=settings.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.down(functional.silu(self.gate(x)) * self.up(x))
