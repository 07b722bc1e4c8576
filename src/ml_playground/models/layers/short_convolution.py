"""A short look back. B rows, T tokens, C width, K taps."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ShortConvolution(nn.Module):
    """Each number of the stream as a weighted sum of its last K values; begins as the identity."""

    def __init__(self, width: int, taps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(taps, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Read the newest token alone."""
        with torch.no_grad():
            self.weight.zero_()
            self.weight[0] = 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C); before the first token there is nothing."""
        return convolved(functional.pad(x, (0, 0, self.weight.shape[0] - 1, 0)), self.weight.to(x.dtype))


def convolved(x: Tensor, weight: Tensor) -> Tensor:
    """(B, K - 1 + T, C), the oldest first, and weights (K, C) by age, the newest first -> (B, T, C)."""
    taps = weight.shape[0]
    length = x.shape[1] - taps + 1
    total = x[:, taps - 1 :] * weight[0]
    for age in range(1, taps):
        total = torch.addcmul(total, x.narrow(1, taps - 1 - age, length), weight[age])
    return total
