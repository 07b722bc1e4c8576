"""AdamW: torch's fused kernel, once for the parameters that decay and once for those that do not.

`torch.optim.AdamW` computes the same, but its first step imports torch._dynamo: 1.5 s, which a short run never earns back.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ml_playground.training.optim.flat import FlatParameters, flat_groups
from ml_playground.training.optim.parts import OptimizerOfParts
from ml_playground.training.settings import AdamW, Muon


def build(settings: AdamW, model: nn.Module, compute_dtype: torch.dtype) -> OptimizerOfParts:
    """AdamW over all trained parameters of a model; its state has their type whatever `compute_dtype` is."""
    return OptimizerOfParts(adam_parts(dict(model.named_parameters()), settings))


def adam_parts(parameters: Mapping[str, nn.Parameter], settings: AdamW | Muon) -> Sequence["FlatAdamW"]:
    """Tensors with two or more dimensions decay; gains and biases do not. Frozen ones are left out."""
    return [
        FlatAdamW(flat, settings, weight_decay=settings.weight_decay if decays else 0.0)
        for decays, flat in flat_groups(parameters, lambda parameter: parameter.ndim > 1)
    ]


class FlatAdamW:
    """AdamW with one rate and one decay for all of its parameters (training.optim.parts.Part)."""

    def __init__(self, flat: FlatParameters, settings: AdamW | Muon, *, weight_decay: float) -> None:
        self.flat, self.lr, self.weight_decay = flat, settings.lr, weight_decay
        self._betas, self._eps = (settings.beta1, settings.beta2), settings.eps
        self._mean, self._mean_square = torch.zeros_like(flat.weights), torch.zeros_like(flat.weights)
        # All count the same, but each parameter is stored with its own.
        self._steps = torch.zeros(len(flat.parameters), device=flat.weights.device)

    def step(self, lr: float, bad: Tensor | None = None) -> None:
        """One update at this learning rate; none where `bad`, () float32 on the device, is 1."""
        self._steps.add_(1 if bad is None else 1 - bad)
        torch._fused_adamw_(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
            [self.flat.weights],
            [self.flat.gradients],
            [self._mean],
            [self._mean_square],
            [],
            [self._steps[0]],
            lr=lr,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=self.weight_decay,
            eps=self._eps,
            amsgrad=False,
            maximize=False,
            # The kernel reads it where it lies, and leaves everything as it is.
            found_inf=bad,
        )

    def state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """As `torch.optim.AdamW` calls it: exp_avg, exp_avg_sq and step, each by parameter."""
        return {
            "exp_avg": self.flat.views(self._mean),
            "exp_avg_sq": self.flat.views(self._mean_square),
            "step": dict(zip(self.flat.parameters, self._steps.unbind(), strict=True)),
        }
