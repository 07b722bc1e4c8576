"""Rotary positions: pairs of a head's features turned by an angle that grows with the position.

The pairs are (i, i + D/2), the layout of Llama, Qwen and the transformers library, so that their weights fit as they are.
B rows, T tokens, H heads, D features of a head.
Source: Su et al. 2021, arXiv 2104.09864.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn


class Rotation(NamedTuple):
    """What the positions at hand multiply with, each (..., T, 1, D)."""

    cos: Tensor
    """For the features themselves."""
    sin: Tensor
    """For their partners, the other half of the head: negative in the first half."""


class Rotary(nn.Module):
    """The angles of positions 0 to length - 1."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head_width: int, *, length: int, theta: float) -> None:
        super().__init__()
        self.head_width, self.length, self.theta = head_width, length, theta
        empty = torch.empty(length, head_width)
        self.register_buffer("cos", empty, persistent=False)
        self.register_buffer("sin", empty, persistent=False)
        self._fill()

    def _fill(self) -> None:
        """Compute the tables where the buffers are."""
        device = self.cos.device
        precision = torch.float64 if self.cos.dtype == torch.float64 else torch.float32
        powers = torch.arange(0, self.head_width, 2, dtype=torch.float64) / self.head_width
        angles = torch.outer(torch.arange(self.length, dtype=torch.float64), self.theta**-powers)
        cos, sin = angles.cos(), angles.sin()
        # As wide as a head: operations on halves of heads, 16 numbers wide, took four times as long.
        self.cos = torch.cat((cos, cos), dim=-1).to(device, precision)
        self.sin = torch.cat((-sin, sin), dim=-1).to(device, precision)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the module; the tables are computed anew, for rounded to bfloat16 they would turn far positions wrongly."""
        super()._apply(fn, recurse)
        self._fill()
        return self

    def first(self, length: int, dtype: torch.dtype) -> Rotation:
        """The rotation of positions 0 to length - 1, for all rows alike."""
        return Rotation(self.cos[:length, None].to(dtype), self.sin[:length, None].to(dtype))

    def of(self, length: int, positions: Tensor | None, dtype: torch.dtype) -> Rotation:
        """The rotation of `positions` (B, T); none: of the first `length`, for all rows alike."""
        return self.first(length, dtype) if positions is None else self.at(positions, dtype)

    def at(self, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """The rotation of `positions` (..., T)."""
        return Rotation(self.cos[positions].unsqueeze(-2).to(dtype), self.sin[positions].unsqueeze(-2).to(dtype))


def rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """`x` (B, T, H, D) turned by its positions."""
    if not torch.is_grad_enabled():
        return _turned(x, *rotation, sign=1)
    return cast(Tensor, _Turn.apply(x, *rotation))


class _Turn(torch.autograd.Function):
    """A rotation's gradient is the rotation back, so nothing of the size of `x` is kept; autograd would keep four halves."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The turned `x`."""
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, sign=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradient turned back."""
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, sin, sign=-1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, *, sign: int) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((second, first), dim=-1), sin, value=sign)
