"""Several rules, each over some of a model's parameters, as one optimizer whose state has stable names."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ml_playground.core.error_handling import CheckpointError
from ml_playground.training.optim.flat import FlatParameters


class Part(Protocol):
    """One rule over some of the parameters."""

    flat: FlatParameters
    lr: float
    """Peak learning rate."""

    def step(self, lr: float, bad: Tensor | None = None) -> None:
        """One update at this learning rate; none where `bad`, () float32 on the device, is 1 and not 0."""
        ...

    def state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """What it remembers, by kind and then by parameter, by reference."""
        ...


class OptimizerOfParts:
    """One or more rules as one (training.protocols.Optimizer)."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self.gradients = {name: view for part in parts for name, view in part.flat.views(part.flat.gradients).items()}
        self.gradient_buffers = [part.flat.gradients for part in parts]

    @property
    def lr(self) -> float:
        """Peak learning rate of the first part."""
        return self._parts[0].lr

    @torch.no_grad()
    def step(self, lr_factor: float, bad: Tensor | None = None) -> None:
        """One update at `lr_factor` times the peak learning rates; none where `bad`, (), is 1."""
        for part in self._parts:
            part.step(part.lr * lr_factor, bad)

    def state_tensors(self) -> dict[str, Tensor]:
        """`<what>/<parameter>`: every tensor that every part remembers, by reference."""
        return {
            f"{what}/{name}": tensor
            for part in self._parts
            for what, tensors in part.state().items()
            for name, tensor in tensors.items()
        }

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state_tensors` gave.

        Raises:
            CheckpointError: A parameter is unknown or missing, its state is not what its rule keeps, or a shape does not fit;
                all are listed.
        """
        own = self.state_tensors()
        problems = self._misfits(own, tensors)
        if problems:
            raise CheckpointError("The optimizer's state does not fit this job: " + "; ".join(problems) + ".")
        for name, tensor in tensors.items():
            own[name].copy_(tensor)

    def _misfits(self, own: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> list[str]:
        kept, given = _kinds_by_parameter(own), _kinds_by_parameter(got)
        problems = [f"nothing is saved of {name}" for name in kept if name not in given]
        for name, kinds in given.items():
            if name not in kept:
                problems += [f"{what}/{name} belongs to no parameter" for what in sorted(kinds)]
            elif kinds != kept[name]:
                problems.append(
                    f"{name} has {', '.join(sorted(kinds))}, its optimizer keeps {', '.join(sorted(kept[name]))}"
                )
            else:
                problems += [
                    f"{what}/{name} is {tuple(got[f'{what}/{name}'].shape)}, the parameter {tuple(own[f'{what}/{name}'].shape)}"
                    for what in sorted(kinds)
                    if got[f"{what}/{name}"].shape != own[f"{what}/{name}"].shape
                ]
        return problems


def _kinds_by_parameter(tensors: Mapping[str, Tensor]) -> dict[str, set[str]]:
    """Parameter -> what is remembered of it."""
    kinds: dict[str, set[str]] = {}
    for path in tensors:
        what, _, name = path.partition("/")
        kinds.setdefault(name, set()).add(what)
    return kinds
