"""A causal model of the transformers library, as everything else here knows models. B rows, T tokens, C width, V vocabulary."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ml_playground.configuration import families
from ml_playground.configuration.base import Component
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.registry import load_object
from ml_playground.core.values import ModelContext
from ml_playground.models.adapters.layers import hold_in
from ml_playground.models.core.hf_causal_lm_attention import Way, arguments_of, bound_of, way_of
from ml_playground.models.core.hf_causal_lm_decoder import HfDecoder
from ml_playground.models.core.hf_causal_lm_loading import blueprint, empty_network, hidden_matrices, loaded_network
from ml_playground.models.hugging_face.base_files import refuse_changed
from ml_playground.models.hugging_face.settings import HfCausalLm
from ml_playground.models.layers.documents import lengths_of
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.models.protocols import Layout

COMPARED_TOKENS = 3
"""Enough to see whether our way to the logits is the library's, and whether a token is read before its turn."""
NOISE = 1e-5
"""Share of the largest logit: rounding moves float32 by a hundredth of it, a token that is seen too early by a hundred times as much."""


class HfCausalLmModel(nn.Module):
    """A network of the library, its way to the logits in two: states, and the head, which a loss may apply in parts."""

    def __init__(self, network: PreTrainedModel, *, known_ids: int, vocab_size: int, max_context: int | None) -> None:
        super().__init__()
        self.network = network
        self.vocab_size, self.max_context, self.known_ids = vocab_size, max_context, known_ids
        self._way: Way | None = None
        self._bound = bound_of(network)
        text: Any = network.config.get_text_config(decoder=True)
        # Gemma bounds its logits, Cohere and Granite scale them, each after the output layer and by a number of its config.
        self._softcap: float | None = getattr(text, "final_logit_softcapping", None)
        self._scale: float = (getattr(text, "logit_scale", None) or 1.0) / (
            getattr(text, "logits_scaling", None) or 1.0
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of ids (B, T)."""
        return self.head(self.hidden(ids))

    def hidden(self, ids: Tensor, layout: Layout | None = None) -> Tensor:
        """Final normalised states (B, T, C).

        Args:
            ids: (B, T).
            layout: Where rows hold several documents: each is read as if it were alone.

        Raises:
            DataError: More tokens than the model has positions.
            ConfigError: The library cannot read documents of this architecture apart.
        """
        lengths = None if layout is None else lengths_of(layout.documents)
        longest = ids.shape[1] if lengths is None else max(lengths)
        if self.max_context is not None and longest > self.max_context:
            raise DataError(
                f"The model reads at most {self.max_context} tokens (max_position_embeddings of its config.json), got rows of "
                f"{longest}; shorten them."
            )
        if layout is None:
            return self._states(ids, {})
        if self._isolating_way() == "none":
            raise ConfigError(
                f"{type(self.network).__name__} lets several documents of a row see each other; use data that keep each in a row of "
                'its own, e.g. data.kind = "padded_examples".'
            )
        return self._states(ids, arguments_of(layout, lengths if longest <= self.longest_alone else None))

    @property
    def longest_alone(self) -> float:
        """Tokens of a document that costs what they cost, whatever else is in its row."""
        return self._bound if self._isolating_way() == "alone" else 0

    def _states(self, ids: Tensor, arguments: Mapping[str, Any]) -> Tensor:
        return cast(Tensor, self.network.base_model(input_ids=ids, use_cache=False, **arguments).last_hidden_state)

    def _isolating_way(self) -> Way:
        """Found out at the first batch that needs it: before, a checkpoint may still have to bring the weights."""
        if self._way is None:
            self._way = way_of(self.network)
        return self._way

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of states (..., C)."""
        return self.finished(cast(nn.Module, self.network.get_output_embeddings())(hidden))

    def finished(self, logits: Tensor) -> Tensor:
        """What the architecture does behind its output layer."""
        if self._scale != 1.0:
            logits = logits * self._scale
        return logits if self._softcap is None else torch.tanh(logits / self._softcap) * self._softcap

    def decoder(self, precision: Precision) -> HfDecoder:
        """What draws from this model, its matrices at a precision.

        Raises:
            ConfigError: The precision does not work where the model is.
        """
        return HfDecoder(self, precision)

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The matrices that map hidden states to hidden states, as Muon asks."""
        return hidden_matrices(self.network)


def build(settings: HfCausalLm, context: ModelContext) -> HfCausalLmModel:
    """The folder's model; without its weights, and without the folder, where a checkpoint brings them.

    Raises:
        ConfigError: The folder changed, the library cannot build its model, or the model does not fit the data or the runtime.
        CheckpointError: The folder's tensors are not those of its config.json.
    """
    plan = blueprint(settings, context.attention)
    known = context.facts["vocab_size"]
    _refuse_misfit(settings, context, plan.vocab_size, plan.max_context)
    # Frozen weights are in no checkpoint.
    needs_folder = context.load_pretrained or settings.adapter is not None
    if needs_folder:
        refuse_changed(settings)
        network = loaded_network(settings, context.attention)
    else:
        network = empty_network(settings, context.attention)
    model = HfCausalLmModel(network, known_ids=known, vocab_size=plan.vocab_size, max_context=plan.max_context)
    if needs_folder:
        _prove(model, settings)
    if settings.adapter is not None:
        _adapt(network, settings.adapter, context)
    if context.activation_checkpointing:
        _recompute(network)
    return model


def _adapt(network: PreTrainedModel, adapter: Component, context: ModelContext) -> None:
    """Freeze a network but for what is put beside its matrices."""
    load_object(families.ADAPTERS[adapter.kind_name].build)(adapter, network)
    if context.compute_dtype == "bfloat16":
        hold_in(network, torch.bfloat16)


def _refuse_misfit(settings: HfCausalLm, context: ModelContext, vocab_size: int, max_context: int | None) -> None:
    known, tokens = context.facts["vocab_size"], context.facts.get("sequence_tokens", 0)
    if vocab_size < known:
        raise ConfigError(
            f"The tokenizer has a vocabulary of {known}, but the model in {settings.path} knows {vocab_size} ids; "
            'prepare with its own tokenizer: prepare.tokenizer = { kind = "hugging_face", path = ... }.'
        )
    if max_context is not None and tokens > max_context:
        raise ConfigError(
            f"data.sequence_tokens = {tokens} is longer than what the model in {settings.path} reads at once, {max_context}; "
            f"use data.sequence_tokens = {max_context} or less."
        )


@torch.no_grad()
def _prove(model: HfCausalLmModel, settings: HfCausalLm) -> None:
    """See that no token is read before its turn, and that our way to the logits is the library's own.

    To whoever sees the next token it is no task; and whoever adds a step to that way would be trained on other numbers.
    """
    model.eval()
    ids = torch.arange(COMPARED_TOKENS)[None] % model.vocab_size
    theirs = _logits(model.network, ids)
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % model.vocab_size
    # What config.json says does not tell: is_decoder = false changes nothing in some families.
    moved = (_logits(model.network, other) - theirs)[:, :-1].abs().max()
    if moved > NOISE * theirs.abs().max():
        raise ConfigError(
            f"model.path = {settings.path}: its {type(model.network).__name__} reads tokens that are still to come, so it would see "
            "what it is to predict, and could write nothing. Such models fill gaps; name a causal language model."
        )
    if not torch.allclose(model(ids), theirs, rtol=1e-4, atol=1e-4, equal_nan=True):
        raise ConfigError(
            f"{type(model.network).__name__} makes its logits in a way that is not known here, so a loss would be of other numbers; "
            "models of this architecture cannot be used."
        )


def _logits(network: PreTrainedModel, ids: Tensor) -> Tensor:
    return cast(Tensor, network(input_ids=ids, use_cache=False).logits)


def _recompute(network: PreTrainedModel) -> None:
    if not network.supports_gradient_checkpointing:
        raise ConfigError(
            f"runtime.activation_checkpointing = true: {type(network).__name__} cannot recompute its layers; set it to false."
        )
    network.activation_checkpointing_enable({"use_reentrant": False})
    # The library makes the embeddings' output ask for gradients, for the older way that recomputes nothing where no input does; this
    # way does not look at inputs, so that adapters on a frozen base get their gradients without it.
    network.disable_input_require_grads()
