"""Muon: orthogonalised momentum for the hidden matrices, AdamW for the rest.

Source: Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from ml_playground.core.error_handling import ConfigError
from ml_playground.training.optim.param_groups import NamedOptimizers, by_decay
from ml_playground.training.settings import Muon

# Coefficients of the quintic iteration that maximise its slope at zero (source above, section "Newton-Schulz").
QUINTIC = (3.4445, -4.7750, 2.0315)


class HasHiddenMatrices(Protocol):
    """A model that says which of its matrices are hidden layers, rather than embeddings or the head."""

    def hidden_matrices(self) -> list[nn.Parameter]:
        """2-D parameters that map hidden states to hidden states."""
        ...


def build(settings: Muon, model: nn.Module, compute_dtype: torch.dtype) -> NamedOptimizers:
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
    matrices = cast(HasHiddenMatrices, model).hidden_matrices()
    chosen = {id(matrix) for matrix in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    adam = torch.optim.AdamW(
        by_decay(others, lr=settings.lr, weight_decay=settings.weight_decay),
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=others[0].device.type != "mps",
    )
    muon = MatrixMomentum(
        matrices,
        lr=settings.matrix_lr,
        momentum=settings.momentum,
        weight_decay=settings.matrix_weight_decay,
        newton_schulz_steps=settings.newton_schulz_steps,
        compute_dtype=compute_dtype,
    )
    return NamedOptimizers(model, [adam, muon])


class MatrixMomentum(torch.optim.Optimizer):
    """Nesterov momentum whose updates are made nearly orthogonal; equal shapes go through the iteration together."""

    def __init__(
        self,
        matrices: list[nn.Parameter],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        newton_schulz_steps: int,
        compute_dtype: torch.dtype,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._newton_schulz_steps = newton_schulz_steps
        self._compute_dtype = compute_dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        if closure is not None:
            raise ValueError("MatrixMomentum takes no closure.")
        for group in self.param_groups:
            lr = float(group["lr"])
            by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for matrix in cast(list[nn.Parameter], group["params"]):
                if matrix.grad is None:
                    continue
                update = self._with_momentum(matrix, matrix.grad)
                rows, columns = matrix.shape
                # Tall matrices go through transposed: the iteration's products then have the smaller side.
                by_shape[min(rows, columns), max(rows, columns)].append((matrix, update))
            for entries in by_shape.values():
                self._apply(entries, lr)

    def _with_momentum(self, matrix: nn.Parameter, gradient: Tensor) -> Tensor:
        state = cast(dict[str, Any], self.state[matrix])
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        buffer: Tensor = state["momentum"]
        buffer.lerp_(gradient, 1 - self._momentum)
        return gradient.lerp(buffer, self._momentum)

    def _apply(self, entries: list[tuple[nn.Parameter, Tensor]], lr: float) -> None:
        stacked = torch.stack([u if u.shape[0] <= u.shape[1] else u.T for _, u in entries])
        steps = orthogonalise(stacked.to(self._compute_dtype), self._newton_schulz_steps)
        for (matrix, _), step in zip(entries, steps.unbind(), strict=True):
            rows, columns = matrix.shape
            matrix.mul_(1 - lr * self._weight_decay)
            turned = step if rows <= columns else step.T
            matrix.add_(turned.to(matrix.dtype), alpha=-lr * max(1.0, rows / columns) ** 0.5)


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
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x
