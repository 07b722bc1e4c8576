"""Muon: orthogonalised momentum for the hidden matrices, AdamW for the rest.

Source: Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ml_playground.core.error_handling import ConfigError
from ml_playground.training.optim.adamw import adam_parts
from ml_playground.training.optim.flat import FlatParameters, flat_groups
from ml_playground.training.optim.parts import OptimizerOfParts
from ml_playground.training.settings import Muon

# Coefficients of the quintic iteration that maximise its slope at zero (source above, section "Newton-Schulz").
QUINTIC = (3.4445, -4.7750, 2.0315)

MOST_STACKED = 1 << 24
"""Numbers that go through the iteration at once, for it holds several copies of them: 0.9 GB for the 26 widest matrices of model/95m,
0.25 in parts. A product of seven such matrices takes all cores as well as one of 26."""


class HasHiddenMatrices(Protocol):
    """A model that says which of its matrices are hidden layers, rather than embeddings or the head."""

    def hidden_matrices(self) -> list[nn.Parameter]:
        """2-D parameters that map hidden states to hidden states."""
        ...


def build(settings: Muon, model: nn.Module, compute_dtype: torch.dtype) -> OptimizerOfParts:
    """Muon on `model.hidden_matrices()`, AdamW on everything else.

    Args:
        settings: Peaks and memories of both parts.
        model: The model to train.
        compute_dtype: Precision of the orthogonalisation; its error is far below that of the iteration itself.

    Raises:
        ConfigError: The model does not say which of its matrices are hidden layers.
    """
    if not callable(getattr(model, "hidden_matrices", None)):
        raise ConfigError(
            f"optimizer.kind = 'muon' needs a model that names its hidden matrices, which {type(model).__name__} "
            "does not; use optimizer.kind = 'adamw'."
        )
    chosen = {id(matrix) for matrix in cast(HasHiddenMatrices, model).hidden_matrices()}
    named = dict(model.named_parameters())
    others = {name: parameter for name, parameter in named.items() if id(parameter) not in chosen}
    matrices = {name: parameter for name, parameter in named.items() if id(parameter) in chosen}
    muons = [MatrixMomentum(flat, settings, compute_dtype) for _, flat in flat_groups(matrices, lambda _: True)]
    return OptimizerOfParts([*adam_parts(others, settings), *muons])


class MatrixMomentum:
    """Nesterov momentum whose updates are made nearly orthogonal; equal shapes go through the iteration together."""

    def __init__(
        self, flat: FlatParameters, settings: Muon, compute_dtype: torch.dtype, *, most_stacked: int = MOST_STACKED
    ) -> None:
        self.flat, self.lr = flat, settings.matrix_lr
        self._settings, self._compute_dtype = settings, compute_dtype
        self._momentum, self._update = torch.zeros_like(flat.weights), torch.zeros_like(flat.weights)
        by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        updates = flat.views(self._update)
        for name, matrix in flat.parameters.items():
            # Tall matrices go through transposed: the iteration's products then have the smaller side.
            update = updates[name] if matrix.shape[0] <= matrix.shape[1] else updates[name].T
            by_shape[update.shape[0], update.shape[1]].append((matrix, update))
        self._stacks: list[list[tuple[nn.Parameter, Tensor]]] = []
        for (rows, columns), entries in by_shape.items():
            at_once = max(1, most_stacked // (rows * columns))
            self._stacks += [entries[first : first + at_once] for first in range(0, len(entries), at_once)]

    def step(self, lr: float, bad: Tensor | None = None) -> None:
        """One update of every matrix at this learning rate; none where `bad`, () float32 on the device, is 1."""
        beta, decay = self._settings.momentum, self._settings.matrix_weight_decay
        if bad is not None:
            # A mean that moves towards itself stays where it is, and an update of nothing moves no weight.
            torch.where(bad > 0, self._momentum, self.flat.gradients, out=self.flat.gradients)
        self._momentum.lerp_(self.flat.gradients, 1 - beta)
        torch.lerp(self.flat.gradients, self._momentum, beta, out=self._update)
        if decay:
            self.flat.weights.mul_(_unless(bad, 1 - lr * decay, self.flat.weights.dtype))
        for entries in self._stacks:
            stacked = torch.stack([update for _, update in entries]).to(self._compute_dtype)
            turned = orthogonalise(stacked, self._settings.newton_schulz_steps)
            if bad is not None:
                turned = turned * (1 - bad).to(turned.dtype)
            for (matrix, _), step in zip(entries, turned.unbind(), strict=True):
                rows, columns = matrix.shape
                upright = step if rows <= columns else step.T
                matrix.add_(upright, alpha=-lr * max(1.0, rows / columns) ** 0.5)

    def state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """The mean gradient of each matrix."""
        return {"momentum": self.flat.views(self._momentum)}


def _unless(bad: Tensor | None, factor: float, dtype: torch.dtype) -> float | Tensor:
    """A factor, but 1 where `bad` is: on its device, for the host does not know it."""
    return factor if bad is None else bad.new_full((), factor, dtype=dtype).masked_fill_(bad > 0, 1.0)


def orthogonalise(matrices: Tensor, steps: int) -> Tensor:
    """Move all singular values of each matrix near 1, keeping its singular vectors.

    Args:
        matrices: (N, R, C) with R <= C.
        steps: Iterations; after 5 the singular values lie in about [0.7, 1.2].

    Returns:
        (N, R, C) in the same dtype.
    """
    a, b, c = QUINTIC
    x = matrices / (matrices.square().sum(dim=(-2, -1), keepdim=True).sqrt() + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
