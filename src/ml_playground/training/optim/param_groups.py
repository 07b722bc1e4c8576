"""Which parameters decay, and one wrapper that gives torch's optimizers stable names for their state."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ml_playground.core.error_handling import CheckpointError

ADAM_STATE = {"exp_avg", "exp_avg_sq", "step"}
MATRIX_STATE = {"momentum"}
"""What each of the optimizers here keeps of a parameter once it has had a gradient."""


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
            CheckpointError: A parameter is unknown, its state is not what its optimizer keeps, or a shape does not fit; all
                are listed.
        """
        owners = {
            parameter: optimizer
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        loaded: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            what, _, parameter_name = name.partition("/")
            loaded.setdefault(parameter_name, {})[what] = tensor
        problems = [problem for name, state in loaded.items() for problem in self._misfits(name, state, owners)]
        if problems:
            raise CheckpointError("The optimizer's state does not fit this job: " + "; ".join(problems) + ".")
        for name, state in loaded.items():
            parameter = self._parameters[name]
            owner = owners[parameter]
            for what, tensor in state.items():
                # Only a fused kernel keeps Adam's step counter beside the parameter; elsewhere it lives on the CPU.
                beside = tensor.ndim or owner.defaults.get("fused")
                owner.state[parameter][what] = tensor.to(parameter.device if beside else "cpu", copy=True)

    def _misfits(
        self, name: str, state: Mapping[str, Tensor], owners: Mapping[nn.Parameter, torch.optim.Optimizer]
    ) -> list[str]:
        parameter = self._parameters.get(name)
        if parameter is None:
            return [f"{what}/{name} belongs to no parameter" for what in sorted(state)]
        kept = MATRIX_STATE if "momentum" in owners[parameter].defaults else ADAM_STATE
        if set(state) != kept:
            return [f"{name} has {', '.join(sorted(state))}, its optimizer keeps {', '.join(sorted(kept))}"]
        return [
            f"{what}/{name} is {tuple(tensor.shape)}, the parameter {tuple(parameter.shape)}"
            for what, tensor in sorted(state.items())
            if tensor.ndim and tensor.shape != parameter.shape
        ]
