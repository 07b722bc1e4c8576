"""AdamW whose moments are kept in 8 bits, in blocks of 64 numbers with a scale each: 2.1 bytes for each weight instead of 8.

The codes lie on a square scale for the mean and on a fourth-power scale for the mean square, so that small numbers beside a large one are
kept too: of the mean 1 / 16,129 of the largest, of the mean square 1 / 4.2 billion. Rounding is dithered: what is kept is right in the mean
over steps, up to a second order (1 % of a mean square a hundredth of the largest). To the nearest code a mean square would never come
down, for a step moves it by less than half the way to the next code.

Source: Dettmers et al. 2021, "8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861, for the blocks; the codes are ours.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ml_playground.training.optim.adamw import AdamRule, by_parameter, count, counters, decaying_parts
from ml_playground.training.optim.flat import ALIGNMENT, FlatParameters
from ml_playground.training.optim.parts import OptimizerOfParts
from ml_playground.training.settings import AdamW8bit

BLOCK = ALIGNMENT
"""Numbers with one scale. As parameters begin at multiples of it, no block holds numbers of two."""
AT_ONCE = 1 << 18
"""Numbers unpacked at a time: 1 MB for each of the half dozen copies that the arithmetic holds, which a cache still takes."""
AT_ONCE_ON_GPU = 1 << 24
"""The same on a GPU, where a call takes longer to start than a million numbers to compute."""
LARGEST, MIDDLE = 255, 127
"""Of the codes: that of the largest number of a block, and that of zero where there is a sign."""
_TINY = 1e-30
LEAST = 2
"""Code of the smallest mean square. Its root is to its largest as the smallest mean is to its own, 1 / 16,129: a mean that is rounded
up is never divided by nothing, which would throw a weight hundreds of rates away."""


def build(settings: AdamW8bit, model: nn.Module, compute_dtype: torch.dtype) -> OptimizerOfParts:
    """AdamW in 8 bits over all trained parameters of a model, computed in their own type whatever `compute_dtype` is."""
    parameters = dict(model.named_parameters())
    return OptimizerOfParts(
        decaying_parts(parameters, settings.weight_decay, lambda flat, decay: EightBitAdamW(flat, settings, decay))
    )


class EightBitAdamW:
    """AdamW whose moments are unpacked, moved and packed again, piece by piece (training.optim.parts.Part)."""

    def __init__(self, flat: FlatParameters, settings: AdamW8bit, weight_decay: float) -> None:
        self.flat, self.lr = flat, settings.lr
        self._rule = AdamRule(settings, weight_decay)
        self._mean, self._mean_square = Packed(flat.weights, signed=True), Packed(flat.weights, signed=False)
        self._steps = counters(flat)

    def step(self, lr: float, bad: Tensor | None = None) -> None:
        """One update at this learning rate; none where `bad`, () float32 on the device, is 1."""
        count(self._steps, bad)
        thresholds = dither(self._steps[0], self.flat.weights.dtype)
        at_once = AT_ONCE if self.flat.weights.device.type == "cpu" else AT_ONCE_ON_GPU
        for first in range(0, len(self.flat.weights), at_once):
            piece = slice(first, first + at_once)
            mean, mean_square = self._mean.unpacked(piece), self._mean_square.unpacked(piece)
            weights, gradients = self.flat.weights[piece], self.flat.gradients[piece]
            self._rule.move(weights, gradients, mean, mean_square, self._steps[0], lr, bad)
            self._mean.pack(piece, mean, thresholds, bad)
            self._mean_square.pack(piece, mean_square, thresholds, bad)

    def state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Codes in the parameters' shapes, the scales of their blocks, and the steps."""
        return {
            "exp_avg": self.flat.views(self._mean.codes),
            "exp_avg_scale": self.flat.views_of_blocks(self._mean.scales),
            "exp_avg_sq": self.flat.views(self._mean_square.codes),
            "exp_avg_sq_scale": self.flat.views_of_blocks(self._mean_square.scales),
            "step": by_parameter(self.flat, self._steps),
        }


class Packed:
    """Numbers in 8 bits each, with a scale for each block of them: the largest root in it, square or fourth."""

    def __init__(self, like: Tensor, *, signed: bool) -> None:
        """Zeros, as many as `like` (N,) has; N is a multiple of BLOCK. Without a sign none may be negative."""
        self._signed, self._dtype = signed, like.dtype
        zero = MIDDLE if signed else 0
        self.codes = torch.full(like.shape, zero, dtype=torch.uint8, device=like.device)
        self.scales = torch.zeros(len(like) // BLOCK, dtype=like.dtype, device=like.device)

    def unpacked(self, piece: slice) -> Tensor:
        """The numbers of a piece, whose ends are multiples of BLOCK."""
        roots = self.codes[piece].to(self._dtype).view(-1, BLOCK)
        scales = self._scales(piece)[:, None]
        if self._signed:
            roots.sub_(MIDDLE).mul_(scales / MIDDLE)
            return roots.mul_(roots.abs()).view(-1)
        return roots.mul_(scales / LARGEST).square_().square_().view(-1)

    def pack(self, piece: slice, numbers: Tensor, thresholds: Tensor, bad: Tensor | None) -> None:
        """Keep the numbers of a piece; where `bad`, (), is 1, what was kept before.

        Args:
            piece: Its ends are multiples of BLOCK.
            numbers: (n,).
            thresholds: (BLOCK,) in [0, 1): added to where a number lies among the codes, before the fraction is cut off.
            bad: Whether the step is none.
        """
        blocks = numbers.view(-1, BLOCK)
        roots = blocks.abs().sqrt_() if self._signed else blocks.sqrt().sqrt_()
        scales = roots.amax(1)
        places = roots.mul_(((MIDDLE if self._signed else LARGEST) / scales.clamp_min(_TINY))[:, None])
        if self._signed:
            places.copysign_(blocks).add_(thresholds + MIDDLE)
        else:
            places.add_(thresholds).clamp_(LEAST, LARGEST)
        codes = places.view(-1)
        if bad is None:
            self.codes[piece], self._scales(piece)[:] = codes, scales
        else:
            self.codes[piece] = torch.where(bad > 0, self.codes[piece], codes.nan_to_num_().to(torch.uint8))
            self._scales(piece)[:] = torch.where(bad > 0, self._scales(piece), scales)

    def _scales(self, piece: slice) -> Tensor:
        return self.scales[piece.start // BLOCK : piece.stop // BLOCK]


def dither(step: Tensor, dtype: torch.dtype) -> Tensor:
    """(BLOCK,) thresholds in [0, 1) of a step: each walks evenly through the interval, and those of one step are spread over it.

    A sequence of Weyl in whole numbers, so that it is the same on every device, and needs nothing stored but the step. Of 14 bits: more
    would be rounded up to the next code beside 254.
    """
    places = torch.arange(BLOCK, device=step.device)
    # 2^32 over the golden ratio, whose multiples are spread as evenly as any; and another odd number, for the places.
    walked = step.to(torch.int64) * 2_654_435_769 + places * 1_013_904_223
    return ((walked & 0xFFFF_FFFF) >> 18).to(dtype) / (1 << 14)
