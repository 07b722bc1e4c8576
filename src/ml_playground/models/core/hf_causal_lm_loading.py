"""From what config.json says to a network of the transformers library, with weights or without; the library is imported here alone.

Nothing of a folder reaches the library but a cleaned config and tensors: it looks for no file, no code and no repository itself.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import logging

from ml_playground.core.error_handling import CheckpointError, ConfigError
from ml_playground.core.registry import did_you_mean
from ml_playground.core.values import ModelCost
from ml_playground.models.adapters.layers import adapter_parameters
from ml_playground.models.core.hf_causal_lm_attention import NAMES, takes_ours
from ml_playground.models.hugging_face.folder import weight_files
from ml_playground.models.hugging_face.settings import HfCausalLm

Attention = Literal["math", "fused"]
HARMLESS_PARAMETERS = 10_000_000
"""40 MB: what may be built only to say what is wrong with it."""
SHOWN_NAMES = 10

# What the library raises over a config that it cannot follow is declared nowhere; these are what its classes raise when a value
# is of another type, contradicts another one, or asks for a package that is not there.
_UNBUILDABLE = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError),
    StrictDataclassError,
)
_DROPOUTS = {
    *(
        "attn_pdrop",
        "embd_pdrop",
        "emb_pdrop",
        "resid_pdrop",
        "attention_dropout",
        "activation_dropout",
        "hidden_dropout",
        "dropout",
    ),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout_rate", "dropout_prob"),
    *("embedding_dropout", "residual_dropout", "mlp_dropout"),
}
"""How configs call their dropout."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What is known of a network from its config alone; nothing of it was allocated."""

    vocab_size: int
    max_context: int | None
    parameters: int
    """Of the folder; a tied table counts once."""
    adapter_parameters: int | None
    """Of what is trained in their place; none: no adapter."""
    matrix_parameters: int
    """Of `hidden_matrices`."""
    multiplied: float
    """Weights by which each token is multiplied: matrices, the output layer, and the experts that it is sent to."""
    attention_width: int
    """Layers times heads times their width."""


def library_config(settings: HfCausalLm) -> PretrainedConfig:
    """The library's own object for what config.json says, with our dropout.

    Raises:
        ConfigError: It knows no such model, or a value is not what it takes.
    """
    _quiet()
    table: dict[str, Any] = json.loads(settings.config or "{}")
    kind = str(table.pop("model_type", None))
    if kind not in CONFIG_MAPPING:
        raise ConfigError(
            f"{settings.path}: model_type = {kind!r:.60} is not known to transformers {transformers.__version__}"
            f"{did_you_mean(kind, list(CONFIG_MAPPING))}; code that comes with a model is never run here, so another version of "
            "the library is the only way."
        )
    try:
        config = AutoConfig.for_model(kind, **table)
    except _UNBUILDABLE as error:
        raise _unbuildable(settings.path, error) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(f"{settings.path}: a model of type {kind!r} is no causal language model; name one that is.")
    if settings.dropout is not None:
        named = [name for name in _DROPOUTS if isinstance(getattr(config, name, None), int | float)]
        if not named:
            raise ConfigError(
                f"model.dropout = {settings.dropout:g} has no effect: models of type {kind!r} have no dropout; remove it."
            )
        for name in named:
            setattr(config, name, settings.dropout)
    return config


def empty_network(settings: HfCausalLm, attention: Attention, device: str = "cpu") -> PreTrainedModel:
    """A network whose weights are whatever lay in memory; on the device `meta` nothing is allocated.

    Raises:
        ConfigError: The library cannot build what config.json describes.
    """
    config = library_config(settings)
    try:
        with torch.device(device), no_init_weights():
            network = cast(Any, AutoModelForCausalLM).from_config(
                config, dtype=torch.float32, attn_implementation=_implementation(config, attention)
            )
        network.tie_weights()
    except _UNBUILDABLE as error:
        raise _unbuildable(settings.path, error) from error
    if getattr(network, "_is_stateful", False):
        raise ConfigError(
            f"{settings.path}: {type(network).__name__} keeps a state of its own instead of keys and values, which is not "
            "supported; use a transformer."
        )
    return cast(PreTrainedModel, network)


def loaded_network(settings: HfCausalLm, attention: Attention) -> PreTrainedModel:
    """A network with the folder's weights in float32.

    Raises:
        ConfigError: The library cannot build what config.json describes.
        CheckpointError: Tensors are missing, unknown or of another shape; the first are named.
    """
    tensors = read_folder(settings.path)
    saved = sum(tensor.numel() for tensor in tensors.values())
    described = blueprint(settings, attention).parameters
    if described > 4 * saved + HARMLESS_PARAMETERS:
        raise CheckpointError(
            f"The config.json in {settings.path} describes a model of {described} parameters, but its files hold {saved}; "
            "they do not belong together. Get the folder anew."
        )
    config = library_config(settings)
    network_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    try:
        network, found = network_class.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=torch.float32,
            attn_implementation=_implementation(config, attention),
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            local_files_only=True,
        )
    except _UNBUILDABLE as error:
        raise _unbuildable(settings.path, error) from error
    _refuse_misfits(settings.path, found)
    _refuse_untied(settings.path, network, empty_network(settings, attention, "meta"))
    return network


def read_folder(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder; those that are to be converted are still mapped from their files.

    Raises:
        CheckpointError: A file is no safetensors file.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            with cast(Any, safe_open)(file, framework="pt", device="cpu") as opened:
                mapped: dict[str, Tensor] = opened.get_tensors()
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file} cannot be read as tensors ({error}); get it anew.") from error
        # What is used as it is must not change, or crash the process, when somebody writes to the file.
        tensors |= {name: one.clone() if one.dtype is torch.float32 else one for name, one in mapped.items()}
    return tensors


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """The matrices between hidden states, as Muon asks: neither tables of tokens or positions nor the output layer."""
    tables = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding)}
    output = cast(Any, network).get_output_embeddings()
    tables |= set() if output is None else {id(output.weight)}
    return [weight for weight in network.parameters() if weight.ndim == 2 and id(weight) not in tables]  # noqa: PLR2004


def blueprint(settings: HfCausalLm, attention: Attention = "math") -> Blueprint:
    """What a network of these settings comes to.

    Raises:
        ConfigError: The library cannot build what config.json describes.
    """
    return _blueprint(settings.model_dump_json(), attention)


@lru_cache(maxsize=8)
def _blueprint(settings_json: str, attention: Attention) -> Blueprint:
    """As text, which can be looked up: planning asks many times."""
    settings = HfCausalLm.model_validate_json(settings_json)
    network = empty_network(settings, attention, "meta")
    text: Any = network.config.get_text_config(decoder=True)
    matrices = hidden_matrices(network)
    beside = None if settings.adapter is None else adapter_parameters(cast(Any, settings.adapter), network)
    try:
        max_context: int | None = getattr(text, "max_position_embeddings", None)
        if max_context is not None and max_context < 1:
            raise ConfigError(
                f"{settings.path}: max_position_embeddings = {max_context} in config.json: a model reads one token at least."
            )
        vocab_size, layers, heads = int(text.vocab_size), int(text.num_hidden_layers), int(text.num_attention_heads)
        head_width = getattr(text, "head_dim", None) or int(text.hidden_size) // heads
        stacked = sum(weight.numel() for weight in network.parameters() if weight.ndim > 2)  # noqa: PLR2004
        experts = getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None) or 1
        share = min(1.0, (getattr(text, "num_experts_per_tok", None) or experts) / experts)
        of_matrices = sum(map(torch.numel, matrices))
        return Blueprint(
            vocab_size=vocab_size,
            max_context=max_context,
            parameters=sum(map(torch.numel, network.parameters())),
            adapter_parameters=beside,
            matrix_parameters=of_matrices,
            multiplied=of_matrices + stacked * share + vocab_size * int(text.hidden_size),
            attention_width=math.prod((layers, heads, head_width)),
        )
    except _UNBUILDABLE as error:
        raise _unbuildable(settings.path, error) from error


def cost(settings: HfCausalLm, facts: Mapping[str, int]) -> ModelCost:
    """All that planning must know of a model with data of these facts: counted on the network itself, of which nothing is allocated.

    Raises:
        ConfigError: The library cannot build what config.json describes.
    """
    plan = blueprint(settings)
    attention = 12 * plan.attention_width * facts["sequence_tokens"]
    beside = plan.adapter_parameters
    # A frozen weight is multiplied on the way there and on the way back, and has no gradient of its own.
    multiplied = 6 * plan.multiplied if beside is None else 4 * plan.multiplied + 6 * beside
    return ModelCost(
        parameters=plan.parameters if beside is None else beside,
        matrix_parameters=plan.matrix_parameters if beside is None else beside,
        flops_per_token=round(multiplied) + attention,
        vocab_size=plan.vocab_size,
        sequence_tokens=facts["sequence_tokens"],
    )


def _implementation(config: PretrainedConfig, attention: Attention) -> str:
    """How the library calls it; what ours cannot compute (bounded scores, in Gemma 2) it writes out, to the same numbers."""
    network_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if takes_ours(network_class):
        return NAMES[attention]
    return "sdpa" if attention == "fused" and getattr(network_class, "_supports_sdpa", False) else "eager"


def _refuse_misfits(folder: Path, found: Mapping[str, Any]) -> None:
    problems = [f"{name} is missing" for name in sorted(found["missing_keys"])]
    problems += [f"{name} is unknown to the model" for name in sorted(found["unexpected_keys"])]
    problems += [
        f"{name} is {tuple(there)}, the model's is {tuple(here)}"
        for name, there, here in sorted(found["mismatched_keys"])
    ]
    problems += [str(error) for error in found["error_msgs"]]
    if problems:
        more = f"; and {len(problems) - SHOWN_NAMES} more" if len(problems) > SHOWN_NAMES else ""
        raise CheckpointError(
            f"The tensors in {folder} do not fit its config.json: {'; '.join(problems[:SHOWN_NAMES])}{more}. Get the folder anew."
        )


def _refuse_untied(folder: Path, network: PreTrainedModel, described: PreTrainedModel) -> None:
    """The library leaves two tensors apart that config.json ties, if their values differ; nothing could read a checkpoint of that."""
    apart = sorted(dict(network.named_parameters()).keys() - dict(described.named_parameters()).keys())
    if apart:
        raise CheckpointError(
            f"The config.json in {folder} says that {', '.join(apart[:SHOWN_NAMES])} is tied to another tensor, but the files hold "
            "both, with different values. If they are meant to differ, say so there: tie_word_embeddings = false."
        )


def _unbuildable(folder: Path, error: BaseException) -> ConfigError:
    words = " ".join(str(error).split())
    return ConfigError(
        f"transformers {transformers.__version__} cannot build the model of {folder}: {words[:400] or type(error).__name__}"
    )


def _quiet() -> None:
    """The library's remarks and bars are for its own users; what ours must know is raised."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
