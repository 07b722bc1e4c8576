"""Frozen matrices in four bits, by the library bitsandbytes, on CUDA.

Source: Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs" (2023).
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ml_playground.core.error_handling import ConfigError
from ml_playground.models.adapters.layers import matrices_of

LIBRARY = "bitsandbytes"
KIND = "nf4"


def quantise(network: PreTrainedModel) -> None:
    """Replace the linear layers, but for the output layer, by such that hold four bits once they are on their device.

    Raises:
        ConfigError: There is no CUDA here, or the library is not installed.
    """
    missing = obstacle(cuda=torch.cuda.is_available(), library=find_spec(LIBRARY) is not None)
    if missing is not None:
        raise ConfigError(missing)
    layers: Any = import_module(LIBRARY).nn
    for name, matrix in matrices_of(network).items():
        weight = matrix.weight.detach()
        upright = weight.t().contiguous() if isinstance(matrix, Conv1D) else weight
        rows, columns = upright.shape
        four = layers.Linear4bit(
            columns, rows, bias=getattr(matrix, "bias", None) is not None, compute_dtype=torch.bfloat16, quant_type=KIND
        )
        four.weight = layers.Params4bit(upright, requires_grad=False, quant_type=KIND)
        four.bias = matrix.bias
        network.set_submodule(name, cast(nn.Module, four))
    # How peft is told which of its layers fit.
    cast(Any, network).is_loaded_in_4bit = True


def dequantised(weight: Any) -> Tensor:
    """What four bits stand for, in float32."""
    return import_module(LIBRARY).functional.dequantize_4bit(weight.data, weight.quant_state).float()


def obstacle(*, cuda: bool, library: bool) -> str | None:
    """Why four bits do not work here, and what to do; None where they do."""
    instead = (
        'or leave model.adapter.quantise at "none": frozen matrices are then held once, in runtime.dtype = "bfloat16" '
        "with two bytes each"
    )
    if not cuda:
        return f'model.adapter.quantise = "nf4" (QLoRA) works on CUDA only, which is not here; train on a machine with it, {instead}.'
    if not library:
        return (
            f'model.adapter.quantise = "nf4" (QLoRA) needs the package {LIBRARY}, which is not installed; install it: '
            f"pip install {LIBRARY}, {instead}."
        )
    return None
