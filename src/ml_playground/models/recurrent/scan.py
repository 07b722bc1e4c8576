"""h_t = a_t h_{t-1} + b_t for all t at once, h_0 = 0. B rows, T tokens, H width of the state.

Every a_t lies in [0, 1], so that no product of them overflows, and one that underflows is a memory that is gone: nothing needs a
logarithm. Sums are float32 at least, also where products are bfloat16.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional


def scanned(keep: Tensor, add: Tensor) -> Tensor:
    """The states of a linear recurrence, with gradients.

    Args:
        keep: a, the share of the state that each token keeps, (B, T, H).
        add: b, what it adds, (B, T, H).

    Returns:
        h (B, T, H).
    """
    if torch.compiler.is_compiling():
        # A loop over tokens would be unrolled into as many kernels; these few fuse.
        return doubled(keep, add)
    return cast(Tensor, _Scan.apply(keep, add))


class _Scan(torch.autograd.Function):
    """The way back is a recurrence too, from the last token to the first: g_t = dL/dh_t + a_{t+1} g_{t+1}."""

    @staticmethod
    def forward(ctx: Any, keep: Tensor, add: Tensor) -> Tensor:
        """Only the shares and the states are kept."""
        states = swept(keep, add)
        ctx.save_for_backward(keep, states)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """dL/db_t = g_t; dL/da_t = g_t h_{t-1}."""
        keep, states = ctx.saved_tensors
        of_add = swept_back(keep, grad)
        return of_add * functional.pad(states[:, :-1], (0, 0, 1, 0)), of_add


def swept(keep: Tensor, add: Tensor) -> Tensor:
    """The same without gradients: token by token on a CPU, where a call costs little; by doubling elsewhere."""
    if keep.device.type != "cpu":
        return doubled(keep, add)
    states = add.new_empty(add.shape)
    places, shares, parts = states.unbind(1), keep.unbind(1), add.unbind(1)
    places[0].copy_(parts[0])
    for at in range(1, len(places)):
        torch.addcmul(parts[at], shares[at], places[at - 1], out=places[at])
    return states


def swept_back(keep: Tensor, grad: Tensor) -> Tensor:
    """g_t = grad_t + keep_{t+1} g_{t+1}, from the last token to the first."""
    if keep.device.type != "cpu":
        later = functional.pad(keep[:, 1:], (0, 0, 0, 1))
        return doubled(later.flip(1), grad.flip(1)).flip(1)
    found = grad.new_empty(grad.shape)
    places, shares, parts = found.unbind(1), keep.unbind(1), grad.unbind(1)
    places[-1].copy_(parts[-1])
    for at in range(len(places) - 2, -1, -1):
        torch.addcmul(parts[at], shares[at + 1], places[at + 1], out=places[at])
    return found


def doubled(keep: Tensor, add: Tensor) -> Tensor:
    """In log2 T steps over all tokens: after each, a token knows twice as many before it.

    Source: Hillis and Steele 1986, "Data Parallel Algorithms", with the composition of affine maps for the sum.
    """
    length, reach = add.shape[1], 1
    while reach < length:
        before = functional.pad(add[:, :-reach], (0, 0, reach, 0))
        add = torch.addcmul(add, keep, before)
        if 2 * reach < length:
            # What lies before the first token is zero, so its share may be anything.
            keep = keep * functional.pad(keep[:, :-reach], (0, 0, reach, 0))
        reach *= 2
    return add
