"""Matrices with an adapter beside them: which they are, what they come to, and how the frozen ones are held. I inputs, O outputs."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import did_you_mean, load_object
from ml_playground.models.adapters.settings import Lora

NAME = "default"
"""peft's, of the only adapter of a model; part of the names of its tensors."""
FROM_FOUR_BITS = "ml_playground.models.adapters.four_bits:dequantised"
SHOWN_NAMES = 12


def matrices_of(network: PreTrainedModel) -> dict[str, nn.Linear | Conv1D]:
    """The linear layers by name, without the output layer: it may be tied to the table of tokens, which no product replaces."""
    output = cast(nn.Module | None, network.get_output_embeddings())
    return {
        name: module
        for name, module in modules_of(network).items()
        if isinstance(module, nn.Linear | Conv1D) and module is not output
    }


def modules_of(network: nn.Module) -> dict[str, nn.Module]:
    """All modules of a network by name, itself among them."""
    return dict(cast(Iterable[tuple[str, nn.Module]], network.named_modules()))


def targets_of(settings: Lora, network: PreTrainedModel) -> dict[str, nn.Linear | Conv1D]:
    """The linear layers that get an adapter.

    Raises:
        ConfigError: A target is not among them; names those that there are.
    """
    matrices = matrices_of(network)
    if settings.targets == "all-linear":
        return matrices
    for target in settings.targets:
        if not any(_names(target, name) for name in matrices):
            # In the order of the network, each once: layers repeat their names.
            known = list(dict.fromkeys(name.rpartition(".")[2] for name in matrices))
            listed = ", ".join(known[:SHOWN_NAMES])
            raise ConfigError(
                f"model.adapter.targets names {target!r}, and no matrix of {type(network).__name__} is called so"
                f'{did_you_mean(target, known)} (there are: {listed}; or "all-linear").'
            )
    return {
        name: module for name, module in matrices.items() if any(_names(target, name) for target in settings.targets)
    }


def _names(target: str, name: str) -> bool:
    return name == target or name.endswith(f".{target}")


def adapter_parameters(settings: Lora, network: PreTrainedModel) -> int:
    """Numbers that are trained: r (I + O) of each matrix, and O lengths of its rows with DoRA."""
    shapes = [_features(matrix) for matrix in targets_of(settings, network).values()]
    return sum(settings.r * (i + o) + o * settings.dora for i, o in shapes)


def _features(matrix: nn.Linear | Conv1D) -> tuple[int, int]:
    rows, columns = matrix.weight.shape
    return (rows, columns) if isinstance(matrix, Conv1D) else (columns, rows)


def adapted_layers(network: nn.Module) -> Mapping[str, Any]:
    """Layers of peft by name; none in a network without an adapter."""
    return {name: module for name, module in modules_of(network).items() if hasattr(module, "get_base_layer")}


def plain_weight(module: Any) -> Tensor:
    """A matrix in float32, whatever it is held in."""
    weight: Tensor = module.weight
    return load_object(FROM_FOUR_BITS)(weight) if hasattr(weight, "quant_state") else weight.float()


@torch.no_grad()
def merged_weight(layer: Any) -> Tensor:
    """The one matrix that computes what a layer of peft does, in float32 and in the order of the frozen matrix.

    Source: Hu et al., "LoRA" (2021), equation 3; Liu et al., "DoRA" (2024), equation 5.
    """
    weight = plain_weight(layer.get_base_layer()) + cast(Tensor, layer.get_delta_weight(NAME))
    if NAME not in layer.lora_magnitude_vector:
        return weight
    inputs = 0 if isinstance(layer.get_base_layer(), Conv1D) else 1
    lengths: Tensor = layer.lora_magnitude_vector[NAME].weight
    own = weight.square().sum(dim=inputs, keepdim=True).sqrt()
    return weight * (lengths.unsqueeze(inputs) / own)


@torch.no_grad()
def hold_in(network: PreTrainedModel, dtype: torch.dtype) -> None:
    """Cast the frozen matrices once to what autocast would cast them to at each use; the numbers are the same.

    Tables and gains stay: autocast reads them as they are. An output layer that is tied to the table of tokens becomes a matrix of
    its own, for its table stays too.
    """
    for module in cast(Iterable[nn.Module], network.modules()):
        # A matrix in four bits is no float any more.
        if isinstance(module, nn.Linear | Conv1D) and module.weight.is_floating_point():
            for part in ("weight", "bias"):
                held = cast(nn.Parameter | None, getattr(module, part))
                if held is not None and not held.requires_grad:
                    setattr(module, part, nn.Parameter(held.to(dtype), requires_grad=False))


def holds_less(network: PreTrainedModel) -> bool:
    """Whether some matrix is held in fewer bits than what it multiplies."""
    return any(
        module.weight.dtype is not torch.float32
        for module in modules_of(network).values()
        if isinstance(module, nn.Linear | Conv1D)
    )
