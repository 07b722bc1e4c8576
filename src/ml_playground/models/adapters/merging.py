"""From a model with an adapter to the same model without: each pair of matrices goes into the matrix that it stands beside."""

from typing import Any, cast

from torch import nn

from ml_playground.core.error_handling import ConfigError
from ml_playground.models.adapters.layers import adapted_layers, merged_weight


def merge_adapter(model: Any) -> None:
    """Replace every layer of an adapter by one matrix, in place; nothing happens to a model without one.

    Args:
        model: An `HfCausalLmModel`, its matrices in float32.

    Raises:
        ConfigError: The frozen matrices are in four bits.
    """
    network: nn.Module = model.network
    for name, layer in adapted_layers(network).items():
        matrix = cast(nn.Module, layer.get_base_layer())
        if not cast(nn.Parameter, matrix.weight).is_floating_point():
            raise ConfigError(
                'The adapter was trained beside matrices in four bits (model.adapter.quantise = "nf4"), and no such pair is merged '
                "here; train it beside whole ones (a new run with quantise left out), or use it as it is: mlp sample."
            )
        matrix.weight = nn.Parameter(merged_weight(layer), requires_grad=False)
        network.set_submodule(name, matrix)
    # What peft has left there for itself.
    vars(network).pop("peft_config", None)
