"""Schedule-free AdamW: no descent of the learning rate, for what is evaluated is a mean of all weights so far.

Three sequences: z, which AdamW moves; x, the mean of the z so far; and y between both, beta1 of the way from z to x, where gradients
are taken. The model holds y while it is trained; x is its averaged weights, which are evaluated, sampled, exported and saved. z is not
kept, for y and x give it.

Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv 2405.15682, with its authors' weights of the mean: the square of the largest
learning rate so far.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ml_playground.training.optim.adamw import by_parameter, decaying_parts
from ml_playground.training.optim.flat import FlatParameters
from ml_playground.training.optim.parts import OptimizerOfParts
from ml_playground.training.settings import ScheduleFree

AT_ONCE = 1 << 18
"""Numbers moved at a time on a CPU, where the copies that the arithmetic holds should stay in a cache."""
AT_ONCE_ON_GPU = 1 << 26


def build(settings: ScheduleFree, model: nn.Module, compute_dtype: torch.dtype) -> "ScheduleFreeOptimizer":
    """Schedule-free AdamW over all trained parameters of a model, computed in their own type whatever `compute_dtype` is."""
    return ScheduleFreeOptimizer(
        decaying_parts(
            dict(model.named_parameters()),
            settings.weight_decay,
            lambda flat, decay: ScheduleFreeAdamW(flat, settings, decay),
        )
    )


class ScheduleFreeOptimizer(OptimizerOfParts):
    """The optimizer, whose averaged weights are the model's (training.ema.AveragesWeights)."""

    def __init__(self, parts: Sequence["ScheduleFreeAdamW"]) -> None:
        super().__init__(parts)
        self.averaged = MeansOfParts(parts)


class ScheduleFreeAdamW:
    """One rate and one decay for all of its parameters (training.optim.parts.Part)."""

    def __init__(self, flat: FlatParameters, settings: ScheduleFree, weight_decay: float) -> None:
        self.flat, self.lr = flat, settings.lr
        self._settings, self._weight_decay = settings, weight_decay
        self.mean = flat.weights.clone()
        self._mean_square = torch.zeros_like(flat.weights)
        # Of each parameter the same three: steps, the largest share of the peak rate so far, and the sum of its squares.
        self._counts = torch.zeros(len(flat.parameters), 3, device=flat.weights.device)

    def step(self, lr: float, bad: Tensor | None = None) -> None:
        """One update at this learning rate; none where `bad`, () float32 on the device, is 1."""
        live = self._counts.new_ones(()) if bad is None else 1 - bad
        steps, largest, total = self._counts.unbind(1)
        steps.add_(live)
        torch.maximum(largest, live * (lr / self.lr), out=largest)
        total.add_(live * largest.square())
        # How much the mean takes of what is new; while every rate was zero there is nothing to take.
        share = (live * largest[0].square() / total[0].clamp_min(torch.finfo(total.dtype).tiny)).to(self.mean.dtype)
        correction = (1 - self._settings.beta2 ** steps[0]).clamp_min(1 - self._settings.beta2).to(self.mean.dtype)
        at_once = AT_ONCE if self.mean.device.type == "cpu" else AT_ONCE_ON_GPU
        for first in range(0, len(self.mean), at_once):
            self._move(slice(first, first + at_once), lr, share, correction, live.to(self.mean.dtype))

    def _move(self, piece: slice, lr: float, share: Tensor, correction: Tensor, live: Tensor) -> None:
        """By increments: what x and y have in common is subtracted nowhere, so that no digits of their difference are lost."""
        beta1, beta2 = self._settings.beta1, self._settings.beta2
        y, x, mean_square = self.flat.weights[piece], self.mean[piece], self._mean_square[piece]
        gradients = torch.where(live > 0, self.flat.gradients[piece], 0.0)
        mean_square.lerp_(gradients.square(), live * (1 - beta2))
        moved = gradients.div_((mean_square / correction).sqrt_().add_(self._settings.eps))
        if self._weight_decay:
            moved.add_(y, alpha=self._weight_decay)
        moved.mul_(live * lr)
        # z - x is (y - x) / (1 - beta1), before this step.
        new = (y - x).div_(1 - beta1).sub_(moved).mul_(share)
        x.add_(new)
        y.add_(new, alpha=beta1).sub_(moved, alpha=1 - beta1)

    def state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """The mean square and the counts of each parameter; the mean of the weights is the model's averaged weights."""
        return {"exp_avg_sq": self.flat.views(self._mean_square), "counts": by_parameter(self.flat, self._counts)}


class MeansOfParts:
    """The means that parts keep, as the averaged weights of a learner (training.ema.Averages)."""

    def __init__(self, parts: Sequence[ScheduleFreeAdamW]) -> None:
        self._parts = parts
        self._means = {name: view for part in parts for name, view in part.flat.views(part.mean).items()}

    def update(self, step: int, bad: Tensor | None = None) -> None:
        """Nothing: the optimizer's own step has moved them."""
        del step, bad

    @contextmanager
    def in_place(self) -> Generator[None]:
        """The model holds the means inside, its own weights again after."""
        # Copied before anything is changed: running out of memory here leaves the model as it was.
        kept = [part.flat.weights.clone() for part in self._parts]
        for part in self._parts:
            part.flat.weights.copy_(part.mean)
        try:
            yield
        finally:
            for part, own in zip(self._parts, kept, strict=True):
                part.flat.weights.copy_(own)

    def state_tensors(self) -> dict[str, Tensor]:
        """The means by parameter name, by reference."""
        return self._means

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore means whose names and shapes were checked."""
        with torch.no_grad():
            for name, tensor in tensors.items():
                self._means[name].copy_(tensor)
