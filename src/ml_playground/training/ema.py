"""Means of the weights, which often evaluate better than the weights themselves: an exponential one, or what an optimizer keeps."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ml_playground.training.protocols import Optimizer


class Averages(Protocol):
    """A mean of a model's weights."""

    def update(self, step: int, bad: Tensor | None = None) -> None:
        """Take in the weights after update number `step` (from 0), but where `bad`, (), is 1."""
        ...

    def in_place(self) -> AbstractContextManager[None]:
        """The model holds the mean inside, its own weights again after."""
        ...

    def state_tensors(self) -> dict[str, Tensor]:
        """The mean by parameter name, by reference."""
        ...

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a mean whose names and shapes were checked."""
        ...


@runtime_checkable
class AveragesWeights(Protocol):
    """What an optimizer offers that keeps a mean itself."""

    @property
    def averaged(self) -> Averages:
        """The weights that are evaluated, sampled and exported."""
        ...


def averages_of(model: nn.Module, optimizer: Optimizer, ema_decay: float) -> Averages | None:
    """The mean that the optimizer keeps, or an exponential one where `ema_decay` is not 0; None where the weights are what counts."""
    if isinstance(optimizer, AveragesWeights):
        return optimizer.averaged
    return AveragedWeights(model, ema_decay) if ema_decay else None


class AveragedWeights:
    """Trained float parameters' running mean: mean <- d * mean + (1 - d) * weights, with d rising to `decay` over the first steps."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad and p.is_floating_point()}
        self._means = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int, bad: Tensor | None = None) -> None:
        """Take in the weights after update number `step` (from 0), but where `bad`, (), is 1.

        The early decay (1 + step) / (10 + step) lets the mean forget the random start (as in TensorFlow's
        ExponentialMovingAverage with num_updates).
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        means, weights = list(self._means.values()), [p.detach() for p in self._parameters.values()]
        if bad is not None:
            # A mean that moves towards itself stays where it is.
            weights = [torch.where(bad > 0, mean, weight) for mean, weight in zip(means, weights, strict=True)]
        torch._foreach_lerp_(means, weights, 1 - decay)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]

    @contextmanager
    def in_place(self) -> Generator[None]:
        """The model holds the averaged weights inside, its own again after."""
        parameters = [p.detach() for p in self._parameters.values()]
        # Copied before anything is changed: running out of memory here leaves the model as it was.
        kept = [p.clone() for p in parameters]
        for parameter, mean in zip(parameters, self._means.values(), strict=True):
            parameter.copy_(mean)
        try:
            yield
        finally:
            for parameter, own in zip(parameters, kept, strict=True):
                parameter.copy_(own)

    def state_tensors(self) -> dict[str, Tensor]:
        """The means by parameter name, by reference."""
        return self._means

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore means whose names and shapes were checked."""
        for name, tensor in tensors.items():
            self._means[name].copy_(tensor)
