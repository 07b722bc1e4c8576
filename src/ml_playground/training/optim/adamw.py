"""AdamW: torch's fused kernel, once for the parameters that decay and once for those that do not.

`torch.optim.AdamW` computes the same, but its first step imports torch._dynamo: 1.5 s, which a short run never earns back.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from ml_playground.training.optim.flat import FlatParameters, flat_groups
from ml_playground.training.optim.parts import OptimizerOfParts, Part
from ml_playground.training.settings import AdamW, Muon

PartT = TypeVar("PartT", bound=Part)


def build(settings: AdamW, model: nn.Module, compute_dtype: torch.dtype) -> OptimizerOfParts:
    """AdamW over all trained parameters of a model; its state has their type whatever `compute_dtype` is."""
    return OptimizerOfParts(adam_parts(dict(model.named_parameters()), settings))


def adam_parts(parameters: Mapping[str, nn.Parameter], settings: AdamW | Muon) -> Sequence["FlatAdamW"]:
    """AdamW as it is, over these parameters."""
    return decaying_parts(parameters, settings.weight_decay, lambda flat, decay: FlatAdamW(flat, settings, decay))


def decaying_parts(
    parameters: Mapping[str, nn.Parameter], weight_decay: float, part: Callable[[FlatParameters, float], PartT]
) -> Sequence[PartT]:
    """One rule, once with a decay for tensors with two or more dimensions, once without for gains and biases; frozen ones left out."""
    return [
        part(flat, weight_decay if decays else 0.0)
        for decays, flat in flat_groups(parameters, lambda parameter: parameter.ndim > 1)
    ]


class FlatAdamW:
    """AdamW with one rate and one decay for all of its parameters (training.optim.parts.Part)."""

    def __init__(self, flat: FlatParameters, settings: AdamW | Muon, weight_decay: float) -> None:
        self.flat, self.lr = flat, settings.lr
        self._rule = AdamRule(settings, weight_decay)
        self._mean, self._mean_square = torch.zeros_like(flat.weights), torch.zeros_like(flat.weights)
        self._steps = counters(flat)

    def step(self, lr: float, bad: Tensor | None = None) -> None:
        """One update at this learning rate; none where `bad`, () float32 on the device, is 1."""
        count(self._steps, bad)
        self._rule.move(self.flat.weights, self.flat.gradients, self._mean, self._mean_square, self._steps[0], lr, bad)

    def state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """As `torch.optim.AdamW` calls it: exp_avg, exp_avg_sq and step, each by parameter."""
        return {
            "exp_avg": self.flat.views(self._mean),
            "exp_avg_sq": self.flat.views(self._mean_square),
            "step": by_parameter(self.flat, self._steps),
        }


class AdamRule:
    """Adam's arithmetic over numbers that lie in a row; it remembers nothing."""

    def __init__(self, settings: AdamW | Muon, weight_decay: float) -> None:
        self._betas, self._eps, self._weight_decay = (settings.beta1, settings.beta2), settings.eps, weight_decay

    def move(
        self,
        weights: Tensor,
        gradients: Tensor,
        mean: Tensor,
        mean_square: Tensor,
        step: Tensor,
        lr: float,
        bad: Tensor | None,
    ) -> None:
        """Move weights and moments (N,) by gradients (N,), as of step number `step`, () from 1; not where `bad`, (), is 1."""
        torch._fused_adamw_(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
            [weights],
            [gradients],
            [mean],
            [mean_square],
            [],
            [step],
            lr=lr,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=self._weight_decay,
            eps=self._eps,
            amsgrad=False,
            maximize=False,
            # The kernel reads it where it lies, and leaves everything as it is.
            found_inf=bad,
        )


def counters(flat: FlatParameters) -> Tensor:
    """(parameters,) float32 steps: all count the same, but each parameter is stored with its own."""
    return torch.zeros(len(flat.parameters), device=flat.weights.device)


def count(steps: Tensor, bad: Tensor | None) -> None:
    """One step more, but where `bad`, (), is 1."""
    steps.add_(1 if bad is None else 1 - bad)


def by_parameter(flat: FlatParameters, values: Tensor) -> dict[str, Tensor]:
    """Values (parameters, ...) by the parameters' names."""
    return dict(zip(flat.parameters, values.unbind(), strict=True))
