"""In which type matrix products run."""

import torch
from torch import Tensor


def product_dtype(weight: Tensor) -> torch.dtype:
    """The type of a product with `weight`: autocast's where it is on and applies, else the weight's own.

    Layers that feed a product give this type themselves, so that no wider copy is made and several products share it.
    """
    device = weight.device.type
    # Nothing is computed on the meta device, and torch refuses the question there.
    if weight.dtype == torch.float32 and device != "meta" and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weight.dtype
