"""AdamW: torch's fused kernel over two groups."""

import torch
from torch import nn

from ml_playground.training.optim.param_groups import NamedOptimizers, by_decay
from ml_playground.training.settings import AdamW


def build(settings: AdamW, model: nn.Module, compute_dtype: torch.dtype) -> NamedOptimizers:
    """AdamW over all parameters of a model; its state is float32 whatever `compute_dtype` is."""
    groups = by_decay(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    adam = torch.optim.AdamW(
        groups, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=model_device(model).type != "mps"
    )
    return NamedOptimizers(model, [adam])


def model_device(model: nn.Module) -> torch.device:
    """Where a model's parameters live."""
    return next(model.parameters()).device
