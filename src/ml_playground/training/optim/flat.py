"""Parameters that lie one behind the other, so that an optimizer moves all of them with a few calls."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

ALIGNMENT = 64
"""Parameters begin at multiples of this many numbers, so that each begins on a line of the cache."""


class FlatParameters:
    """Parameters of one device and one type, moved into one buffer; their gradients are views of another.

    The parameters stay what they are to everybody else, for only their memory moves. The numbers between them are zero, and an
    update of zero leaves them so.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        first = next(iter(parameters.values()))
        self._shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.parameters = parameters
        self.weights = torch.zeros(sum(map(_room, parameters.values())), dtype=first.dtype, device=first.device)
        self.gradients = torch.zeros_like(self.weights)
        for name, view in self.views(self.weights).items():
            view.copy_(parameters[name].detach())
            parameters[name].data = view

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """A buffer of the size of `weights`, as the parameters' shapes by name."""
        views: dict[str, Tensor] = {}
        start = 0
        for name, shape in self._shapes.items():
            views[name] = buffer[start : start + shape.numel()].view(shape)
            start += _room(views[name])
        return views

    def views_of_blocks(self, buffer: Tensor) -> dict[str, Tensor]:
        """A buffer with a number for each ALIGNMENT numbers of `weights`, as the blocks of the parameters by name."""
        views: dict[str, Tensor] = {}
        start = 0
        for name, shape in self._shapes.items():
            blocks = -(-shape.numel() // ALIGNMENT)
            views[name] = buffer[start : start + blocks]
            start += blocks
        return views


def flat_groups(
    parameters: Mapping[str, nn.Parameter], key: Callable[[nn.Parameter], bool]
) -> Sequence[tuple[bool, FlatParameters]]:
    """One buffer for each value of `key`, true first; more where types or devices differ. Frozen parameters are left out."""
    groups: dict[tuple[bool, torch.dtype, torch.device], dict[str, nn.Parameter]] = {}
    for name, parameter in parameters.items():
        if parameter.requires_grad:
            groups.setdefault((key(parameter), parameter.dtype, parameter.device), {})[name] = parameter
    # A sort keeps the order of equals, so the order depends on the model alone.
    return [(kind[0], FlatParameters(group)) for kind, group in sorted(groups.items(), key=lambda item: not item[0][0])]


def _room(tensor: Tensor) -> int:
    """Numbers reserved for it."""
    return -(-tensor.numel() // ALIGNMENT) * ALIGNMENT
