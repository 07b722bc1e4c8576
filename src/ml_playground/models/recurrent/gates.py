"""What a minimal GRU does with its gate and its candidate. H width of the state."""

import torch
from torch import Tensor


def keep_and_add(gate: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
    """What of the state is kept, and what is added: h_t = keep h_{t-1} + add.

    Sums over many tokens follow, so that narrower types are widened to float32.

    Args:
        gate: (..., H); its sigmoid z is the share that is new.
        candidate: (..., H).

    Returns:
        1 - z and z positive(candidate), each (..., H).
    """
    wide = torch.promote_types(gate.dtype, torch.float32)
    gate, candidate = gate.to(wide), candidate.to(wide)
    # sigmoid(-x) rather than 1 - sigmoid(x), which has no digits left where almost nothing is kept.
    return torch.sigmoid(-gate), torch.sigmoid(gate) * positive(candidate)


def positive(x: Tensor) -> Tensor:
    """A smooth function without negative values: x + 1/2 above zero, sigmoid(x) below.

    Source: Feng et al. 2024, "Were RNNs All We Needed?", arXiv 2410.01201, appendix B.3.
    """
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))
