"""Which parameters decay, and one wrapper that gives torch's optimizers stable names for their state."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ml_playground.core.error_handling import CheckpointError


def by_decay(parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: tensors with two or more dimensions decay; gains and biases do not."""
    listed = list(parameters)
    groups = [
        {"params": [p for p in listed if p.ndim > 1], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in listed if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class NamedOptimizers:
    """One or more torch optimizers over the parameters of one model, as one (training.protocols.Optimizer)."""

    def __init__(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._optimizers = optimizers
        self._parameters = dict(model.named_parameters())
        self._peaks = [[float(group["lr"]) for group in optimizer.param_groups] for optimizer in optimizers]

    @property
    def lr(self) -> float:
        """Peak learning rate of the first group."""
        return self._peaks[0][0]

    def step(self, lr_factor: float) -> None:
        """One update at `lr_factor` times the peak learning rates."""
        for optimizer, peaks in zip(self._optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * lr_factor
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """`<what>/<parameter>`: every tensor of every optimizer's state, by reference."""
        return {
            f"{what}/{name}": value
            for name, parameter in self._parameters.items()
            for optimizer in self._optimizers
            for what, value in optimizer.state.get(parameter, {}).items()
        }

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state_tensors` gave.

        Raises:
            CheckpointError: A parameter is unknown, or a shape does not fit; all are listed.
        """
        problems = [problem for name, tensor in tensors.items() for problem in self._misfits(name, tensor)]
        if problems:
            raise CheckpointError("The optimizer's state does not fit this model: " + "; ".join(problems) + ".")
        owners = {
            parameter: optimizer
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for name, tensor in tensors.items():
            what, _, parameter_name = name.partition("/")
            parameter = self._parameters[parameter_name]
            owner = owners[parameter]
            # Only a fused kernel keeps Adam's step counter beside the parameter; elsewhere it lives on the CPU.
            beside = tensor.ndim or owner.defaults.get("fused")
            owner.state[parameter][what] = tensor.to(parameter.device if beside else "cpu", copy=True)

    def _misfits(self, name: str, tensor: Tensor) -> list[str]:
        parameter = self._parameters.get(name.partition("/")[2])
        if parameter is None:
            return [f"{name} belongs to no parameter"]
        if tensor.ndim and tensor.shape != parameter.shape:
            return [f"{name} is {tuple(tensor.shape)}, the parameter {tuple(parameter.shape)}"]
        return []
