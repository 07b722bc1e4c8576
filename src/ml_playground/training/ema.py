"""An exponential mean of the weights, which often evaluates better than the weights themselves."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


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
