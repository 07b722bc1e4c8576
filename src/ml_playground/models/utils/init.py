"""Random weights to begin with."""

import math

from torch import Tensor, nn

EMBEDDING_AND_LINEAR_STD = 0.02
"""GPT-2's; small enough that the first logits are nearly equal and the first loss is near ln V."""


def residual_std(n_layer: int) -> float:
    """Spread of the projections into the residual stream, which adds up 2 n_layer of them.

    Source: Radford et al. 2019 (GPT-2), section 2.3.
    """
    return EMBEDDING_AND_LINEAR_STD / math.sqrt(2 * n_layer)


def initialise(module: nn.Module, *, n_layer: int, residual: set[str], zero_residual: bool) -> None:
    """Fill every matrix and bias of `module` from torch's generator; gains of norms stay at one.

    Args:
        module: Its parameters are filled in the order of their names' first appearance.
        n_layer: Blocks, for the spread of the residual projections.
        residual: Last two parts, numbers left out, of the names of the matrices that write into the residual stream.
        zero_residual: Those start at zero instead.
    """
    for name, parameter in module.named_parameters():
        if parameter.dim() < 2:  # noqa: PLR2004 - a vector is a bias or a gain
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
        elif ".".join([part for part in name.split(".") if not part.isdigit()][-3:-1]) in residual:
            _fill(parameter, 0.0 if zero_residual else residual_std(n_layer))
        else:
            _fill(parameter, EMBEDDING_AND_LINEAR_STD)


def _fill(parameter: Tensor, std: float) -> None:
    if std:
        nn.init.normal_(parameter, std=std)
    else:
        nn.init.zeros_(parameter)
