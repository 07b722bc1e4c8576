"""GaLore: AdamW in a space of few dimensions for each matrix inside the blocks, for gradients of matrices have few that matter.

Source: Zhao et al. 2024, "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", arXiv 2403.03507. As there, moments
are kept as they are when the space is turned.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ml_playground.core.error_handling import ConfigError
from ml_playground.training.optim.adamw import adam_parts
from ml_playground.training.optim.flat import FlatParameters, flat_groups
from ml_playground.training.optim.muon import HasHiddenMatrices
from ml_playground.training.optim.parts import OptimizerOfParts
from ml_playground.training.settings import GaLore


def build(settings: GaLore, model: nn.Module, compute_dtype: torch.dtype) -> OptimizerOfParts:
    """GaLore on those of `model.hidden_matrices()` whose shorter side is longer than the rank, AdamW on everything else.

    Raises:
        ConfigError: The model does not say which of its matrices are hidden layers, or none of them is so large.
    """
    if not callable(getattr(model, "hidden_matrices", None)):
        raise ConfigError(
            f"optimizer.kind = 'galore' needs a model that names its hidden matrices, which {type(model).__name__} "
            "does not; use optimizer.kind = 'adamw8bit'."
        )
    hidden = [matrix for matrix in cast(HasHiddenMatrices, model).hidden_matrices() if matrix.requires_grad]
    chosen = {id(matrix) for matrix in hidden if min(matrix.shape) > settings.rank}
    if not chosen:
        widest = max((min(matrix.shape) for matrix in hidden), default=0)
        raise ConfigError(
            f"optimizer.rank = {settings.rank} projects nothing: the widest hidden matrix that is trained has {widest} dimensions; "
            f"set optimizer.rank below that (a quarter: {max(1, widest // 4)}), or optimizer.kind = 'adamw8bit'."
        )
    named = dict(model.named_parameters())
    others = {name: parameter for name, parameter in named.items() if id(parameter) not in chosen}
    matrices = {name: parameter for name, parameter in named.items() if id(parameter) in chosen}
    projected = [ProjectedAdamW(flat, settings) for _, flat in flat_groups(matrices, lambda _: True)]
    return OptimizerOfParts([*adam_parts(others, settings), *projected])


class ProjectedAdamW:
    """AdamW of projected gradients, matrix by matrix (training.optim.parts.Part). R rank, M longer side, N shorter side."""

    def __init__(self, flat: FlatParameters, settings: GaLore) -> None:
        self.flat, self.lr = flat, settings.lr
        self._settings = settings
        self._matrices = [Projected(matrix, settings.rank) for matrix in flat.parameters.values()]
        self._steps = torch.zeros(len(flat.parameters), device=flat.weights.device)
        self._made: int | None = None

    def step(self, lr: float, bad: Tensor | None = None) -> None:
        """One update at this learning rate; none where `bad`, () float32 on the device, is 1."""
        # Whether the space is turned is decided by the host, which must know whether this step counts: it waits for the device.
        if bad is not None and bad.item():
            return
        made = self._made_before()
        turns = made % self._settings.update_proj_gap == 0
        gradients = self.flat.views(self.flat.gradients)
        for name, matrix in zip(self.flat.parameters, self._matrices, strict=True):
            matrix.move(gradients[name], lr, made + 1, self._settings, turns=turns)
        self._steps.add_(1)
        self._made = made + 1

    def state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Moments in the small space, the space, and the steps; by reference, so whoever loads them changes the count of steps too."""
        self._made = None
        names = self.flat.parameters
        return {
            "exp_avg": dict(zip(names, (one.mean for one in self._matrices), strict=True)),
            "exp_avg_sq": dict(zip(names, (one.mean_square for one in self._matrices), strict=True)),
            "projection": dict(zip(names, (one.basis for one in self._matrices), strict=True)),
            "step": dict(zip(names, self._steps.unbind(), strict=True)),
        }

    def _made_before(self) -> int:
        """Steps made so far; read from the device once after each load."""
        return int(self._steps[0].item()) if self._made is None else self._made


class Projected:
    """One matrix, and the moments of its projected gradient."""

    def __init__(self, matrix: nn.Parameter, rank: int) -> None:
        self._matrix = matrix
        self._tall = matrix.shape[0] > matrix.shape[1]
        longer, shorter = max(matrix.shape), min(matrix.shape)
        self.basis = matrix.new_zeros(shorter, rank)
        """(N, R): columns of length one at right angles."""
        self.mean, self.mean_square = matrix.new_zeros(rank, longer), matrix.new_zeros(rank, longer)

    def move(self, gradient: Tensor, lr: float, step: int, settings: GaLore, *, turns: bool) -> None:
        """One update by the gradient of the matrix, at step number `step` from 1; with `turns` in a new space."""
        lying = gradient.T if self._tall else gradient
        if turns:
            self.basis.copy_(strongest_directions(lying, self.basis.shape[1]))
        small = self.basis.T @ lying
        self.mean.lerp_(small, 1 - settings.beta1)
        self.mean_square.lerp_(small.square(), 1 - settings.beta2)
        deviation = (self.mean_square / (1 - settings.beta2**step)).sqrt_().add_(settings.eps)
        back = self.basis @ (self.mean / (1 - settings.beta1**step)).div_(deviation)
        self._matrix.mul_(1 - lr * settings.weight_decay)
        self._matrix.add_(back.T if self._tall else back, alpha=-lr * settings.scale)


def strongest_directions(lying: Tensor, rank: int) -> Tensor:
    """(N, R): the left singular vectors of the R largest singular values of a matrix (N, M).

    As eigenvectors of its Gram matrix, which take a fraction of the time and are as good for the largest; on the CPU for MPS, which
    has no such kernel. Where the gradient is not finite any directions are given: the loop sees the loss, and undoes the step.
    """
    gram = torch.nan_to_num(lying @ lying.T, nan=0.0, posinf=0.0, neginf=0.0)
    _, found = cast(tuple[Tensor, Tensor], torch.linalg.eigh(gram.cpu() if gram.device.type == "mps" else gram))
    return found[:, -rank:].flip(1).to(lying.device)
