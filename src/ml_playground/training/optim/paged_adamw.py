"""AdamW whose moments lie in the host's memory, and visit the device piece by piece: room on a small GPU, paid for in time.

Both moments cross the bus in both directions at each step: 16 bytes for each weight, which a PCIe link of 16 lanes of version 4 carries
at about 20 GB/s. bitsandbytes, whose paged optimizers do the same by CUDA's managed memory, is not needed.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ml_playground.core.error_handling import ConfigError
from ml_playground.training.optim.adamw import AdamRule, by_parameter, count, counters, decaying_parts
from ml_playground.training.optim.flat import FlatParameters
from ml_playground.training.optim.parts import OptimizerOfParts
from ml_playground.training.settings import PagedAdamW

AT_ONCE = 1 << 24
"""Numbers of a moment that are on the device at once: 64 MB."""


def build(settings: PagedAdamW, model: nn.Module, compute_dtype: torch.dtype) -> OptimizerOfParts:
    """AdamW over all trained parameters of a model, its moments in the host's memory.

    Raises:
        ConfigError: The model is not on CUDA: elsewhere device and host share one memory.
    """
    device = next(model.parameters()).device
    if device.type != "cuda":
        raise ConfigError(
            f"optimizer.kind = 'paged_adamw' keeps the moments of a CUDA device in the host's memory, and this run computes on "
            f"{device.type}, which has no other memory than the host's; set optimizer.kind = 'adamw8bit' to spare three quarters of "
            "what the moments take, or 'adamw'."
        )
    return paged(settings, model, at_once=AT_ONCE)


def paged(settings: PagedAdamW, model: nn.Module, *, at_once: int) -> OptimizerOfParts:
    """The same wherever the model is; `at_once`: numbers of a moment that visit the device together."""
    return OptimizerOfParts(
        decaying_parts(
            dict(model.named_parameters()),
            settings.weight_decay,
            lambda flat, decay: VisitingMoments(flat, settings, decay, at_once),
        )
    )


class VisitingMoments:
    """AdamW whose moments are brought, moved and taken back, piece by piece (training.optim.parts.Part).

    All of it is queued on the stream of the training, so that no piece is brought before it was taken back.
    """

    def __init__(self, flat: FlatParameters, settings: PagedAdamW, weight_decay: float, at_once: int) -> None:
        self.flat, self.lr = flat, settings.lr
        self._rule = AdamRule(settings, weight_decay)
        numbers, dtype, on_cuda = len(flat.weights), flat.weights.dtype, flat.weights.is_cuda
        # A copy to and from locked pages is queued; one of others would wait for the device.
        self._mean, self._mean_square = (torch.zeros(numbers, dtype=dtype, pin_memory=on_cuda) for _ in range(2))
        self._rooms = [flat.weights.new_empty(min(at_once, numbers)) for _ in range(2)]
        self._steps = counters(flat)

    def step(self, lr: float, bad: Tensor | None = None) -> None:
        """One update at this learning rate; none where `bad`, () float32 on the device, is 1."""
        count(self._steps, bad)
        weights, gradients = self.flat.weights, self.flat.gradients
        for first in range(0, len(weights), len(self._rooms[0])):
            piece = slice(first, min(first + len(self._rooms[0]), len(weights)))
            homes = self._mean[piece], self._mean_square[piece]
            visitors = [room[: piece.stop - piece.start] for room in self._rooms]
            for visitor, home in zip(visitors, homes, strict=True):
                visitor.copy_(home, non_blocking=True)
            self._rule.move(weights[piece], gradients[piece], visitors[0], visitors[1], self._steps[0], lr, bad)
            for visitor, home in zip(visitors, homes, strict=True):
                home.copy_(visitor, non_blocking=True)

    def state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """As `torch.optim.AdamW` calls it: exp_avg, exp_avg_sq, in the host's memory, and step."""
        if self.flat.weights.is_cuda:
            # Whoever reads them reads on the host, which does not wait for what is queued on the device.
            torch.cuda.current_stream(self.flat.weights.device).synchronize()
        return {
            "exp_avg": self.flat.views(self._mean),
            "exp_avg_sq": self.flat.views(self._mean_square),
            "step": by_parameter(self.flat, self._steps),
        }
