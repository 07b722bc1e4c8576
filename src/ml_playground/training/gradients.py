"""Where gradients are taken, where they go, and how long they may be."""

from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

# One sum in float32 over the squares of 124 million numbers came out 1.3 % too small; in parts of this size it is exact to 1e-5.
NORM_PART = 1 << 16


def clipped_norm(buffers: Sequence[Tensor], longest: float) -> Tensor:
    """() length of all gradients together, as it was before they were scaled down to at most `longest`; 0 leaves them."""
    parts = [part for buffer in buffers for part in torch.split(buffer, NORM_PART)]
    lengths = torch._foreach_norm(parts)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    norm: Tensor = torch.stack(lengths).square().sum().sqrt()
    if longest:
        # A factor of 1 where nothing is too long, for a question would wait for the device. And where the length is no number:
        # no gradient is written between the parameters, where a NaN would spoil the norm of every step that follows.
        factor = (longest / (norm + 1e-6)).clamp_(max=1.0).nan_to_num_(nan=1.0)
        for buffer in buffers:
            buffer.mul_(factor)
    return norm


class Leaves:
    """What gradients of a model are taken of: its parameters, or a twin of one in the type that autocast multiplies in.

    Autocast casts the weights of linear layers at each use, and their gradients back one by one: 70 copies a step of 4 blocks.
    A twin is cast with all others in one call, to the same numbers. Only weights with one place in the model have one.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._twins: dict[str, nn.Parameter] = {}
        self._places: list[tuple[dict[str, nn.Parameter | None], str, str]] = []
        uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
        for path, module in cast(Iterable[tuple[str, nn.Module]], model.named_modules()):
            for part in ("weight", "bias") if isinstance(module, nn.Linear) else ():
                name = f"{path}.{part}" if path else part
                parameter = self._parameters.get(name)
                if parameter is not None and uses[id(parameter)] == 1 and parameter.dtype is torch.float32 != dtype:
                    self._twins[name] = nn.Parameter(parameter.detach().to(dtype))
                    # The module's own table, for an assignment to the module takes a microsecond, 64 times a step.
                    self._places.append((module._parameters, part, name))  # pyright: ignore[reportPrivateUsage]

    @contextmanager
    def in_place(self) -> Generator[None]:
        """The model holds the twins inside, with the weights of now; its own parameters again after."""
        if self._twins:
            twins: list[Tensor] = [*self._twins.values()]
            weights: list[Tensor] = [self._parameters[name] for name in self._twins]
            with torch.no_grad():
                torch._foreach_copy_(twins, weights)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
        for table, part, name in self._places:
            table[part] = self._twins[name]
        try:
            yield
        except BaseException:
            # What a broken-off way back has left would be added to the next one.
            for name, parameter in self._parameters.items():
                self._twins.get(name, parameter).grad = None
            raise
        finally:
            for table, part, name in self._places:
                table[part] = self._parameters[name]

    @torch.no_grad()
    def collect(self, gradients: Mapping[str, Tensor], *, first: bool) -> None:
        """Move what one way back has left at the leaves to `gradients`; with `first` in place of what is there, else added."""
        into: list[Tensor] = []
        found: list[Tensor] = []
        for name, parameter in self._parameters.items():
            leaf = self._twins.get(name, parameter)
            if leaf.grad is not None:
                into.append(gradients[name])
                found.append(leaf.grad)
                leaf.grad = None
            elif first:
                gradients[name].zero_()
        if found:
            (torch._foreach_copy_ if first else torch._foreach_add_)(into, found)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
