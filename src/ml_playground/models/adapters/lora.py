"""Low-rank adapters of the peft library, which is imported here alone; it takes seconds."""

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ml_playground.core.registry import load_object
from ml_playground.models.adapters.layers import NAME, targets_of
from ml_playground.models.adapters.settings import Lora

QUANTISE = "ml_playground.models.adapters.four_bits:quantise"


def build(settings: Lora, network: PreTrainedModel) -> nn.Module:
    """Put a pair of matrices beside each target, in place; all else of the network is frozen.

    A is drawn from torch's global stream, B is zero: the network computes what it did before.

    Raises:
        ConfigError: A target is not there, or four bits are asked for where they do not work.
    """
    if settings.quantise != "none":
        load_object(QUANTISE)(network)
    targets = targets_of(settings, network)
    config = LoraConfig(
        r=settings.r,
        # peft asks for a whole number and computes with any.
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=settings.dropout,
        target_modules=list(targets),
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        # GPT-2 stores its matrices the other way round.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in targets.values()),
        bias="none",
    )
    inject_adapter_in_model(config, network, NAME)
    for parameter in network.parameters():
        # peft gives an adapter the type of its base; what is trained is float32.
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return network
