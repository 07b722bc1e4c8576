"""Draws from a network of the transformers library with its own cache. B rows, t new tokens, V vocabulary, S seen positions."""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ml_playground.core.error_handling import DataError
from ml_playground.models.adapters.layers import (
    adapted_layers,
    holds_less,
    merged_weight,
    modules_of,
    plain_weight,
)
from ml_playground.models.layers.packed_linear import Linear, Precision, packed

if TYPE_CHECKING:
    from ml_playground.models.core.hf_causal_lm import HfCausalLmModel

FLOAT32_BYTES = 4
PACKED_BYTES = 1 << 30
"""Matrices in float32 are packed, which makes them twice as fast, where a second copy of them takes at most this."""


@dataclass(slots=True)
class HfState:
    """What some rows have seen."""

    cache: DynamicCache
    rows: int
    length: int
    """Positions that were asked for, padding included."""
    starts: Tensor | None
    """(B,) padding positions at the left of each row; None: no padding anywhere."""
    seen: int = 0

    def select(self, rows: Tensor) -> None:
        """Hold these rows, (K,), in this order: beam search goes on from one in several ways, and leaves others."""
        self.cache.reorder_cache(cast(torch.LongTensor, rows))
        self.rows = len(rows)
        self.starts = None if self.starts is None else self.starts.index_select(0, rows)

    def admit(self, ids: Tensor) -> None:
        """Check that `ids` (B, t) fit behind what was seen.

        Raises:
            DataError: Another number of rows, or more positions than asked for.
        """
        rows, new = ids.shape
        if rows != self.rows:
            raise DataError(f"The cache was made for {self.rows} rows, but {rows} rows of ids came; make a new cache.")
        if new < 1 or self.seen + new > self.length:
            raise DataError(
                f"The cache was made for {self.length} positions and has seen {self.seen}; {new} more cannot be read."
            )

    def reading(self, ids: Tensor) -> dict[str, Tensor]:
        """What the network must be told of padding: which of all S + t positions are real, and where the t new ones stand in their rows."""
        if self.starts is None:
            return {}
        positions = torch.arange(self.seen + ids.shape[1], device=ids.device)
        return {
            "attention_mask": (positions >= self.starts[:, None]).long(),
            "position_ids": (positions[self.seen :] - self.starts[:, None]).clamp_min(0),
        }


class HfDecoder:
    """Next tokens of rows that share a cache."""

    def __init__(self, model: "HfCausalLmModel", precision: Precision, *, packed_bytes: int = PACKED_BYTES) -> None:
        self.vocab_size, self.max_context, self._known = model.vocab_size, model.max_context, model.known_ids
        self.device = next(model.parameters()).device
        self._finished = model.finished
        self._network = with_packed_matrices(model.network, precision, packed_bytes)
        # Frozen matrices that training holds in fewer bits multiply in that type only, and what they read must be cast to it.
        self._held_in = torch.bfloat16 if self._network is model.network and holds_less(model.network) else None
        self._output = cast(nn.Module, self._network.get_output_embeddings())

    def new_state(self, rows: int, length: int, starts: Tensor | None = None) -> HfState:
        """An empty cache for `rows` rows of at most `length` positions.

        Args:
            rows: B.
            length: Positions, padding included.
            starts: (B,) padding positions at the left of each row; None: no padding.

        Raises:
            DataError: More real positions than the model has, or `starts` that do not fit.
        """
        if starts is not None and (starts.shape != (rows,) or int(starts.min()) < 0 or int(starts.max()) >= length):
            raise DataError(
                f"starts must hold one number from 0 to {length - 1} for each of {rows} rows, got {starts.tolist()}."
            )
        longest = length - (0 if starts is None else int(starts.min()))
        if self.max_context is not None and longest > self.max_context:
            raise DataError(
                f"The model reads at most {self.max_context} tokens, but {longest} were asked for; "
                "shorten the prompt or generate fewer tokens."
            )
        cache = DynamicCache(config=self._network.config)
        return HfState(cache, rows, length, None if starts is None else starts.to(self.device))

    @torch.no_grad()
    def step(self, ids: Tensor, state: HfState) -> Tensor:
        """Logits (B, V) after the last of `ids` (B, t), which follow what `state` has seen; `state` advances in place.

        Ids that the tokenizer does not have are never drawn: they pad the vocabulary, and stand for no text.

        Raises:
            DataError: The ids do not fit into the state.
        """
        state.admit(ids)
        body = self._network.base_model
        with self._casting():
            output = body(input_ids=ids, past_key_values=state.cache, use_cache=True, **state.reading(ids))
            logits = self._finished(self._output(output.last_hidden_state[:, -1])).float()
        state.seen += ids.shape[1]
        if self._known < self.vocab_size:
            logits[:, self._known :] = float("-inf")
        return logits

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """Logits (B, t, V) after each of `ids` (B, t), read from their beginning: what a precision costs is measured with it."""
        with self._casting():
            hidden = self._network.base_model(input_ids=ids, use_cache=False).last_hidden_state
            return self._finished(self._output(hidden)).float()

    def _casting(self) -> AbstractContextManager[object]:
        return nullcontext() if self._held_in is None else torch.autocast(self.device.type, self._held_in)


class PackedLinear(nn.Module):
    """A linear layer of the library that multiplies at a precision; what goes in and comes out keeps its type."""

    def __init__(self, linear: Linear, weight: Tensor) -> None:
        super().__init__()
        self._linear = linear
        # Some layers ask their products for the type of their weights.
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        return self._linear(x.reshape(-1, x.shape[-1])).to(x.dtype).view(*x.shape[:-1], -1)


def with_packed_matrices(network: PreTrainedModel, precision: Precision, packed_bytes: int) -> PreTrainedModel:
    """The same network with other matrices: all else is shared, so that only what is packed takes memory.

    Raises:
        ConfigError: The precision does not work where the model is.
    """
    matrices = [module for module in network.modules() if isinstance(module, nn.Linear | Conv1D)]
    if precision == "float32" and sum(FLOAT32_BYTES * module.weight.numel() for module in matrices) > packed_bytes:
        return network
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared).eval()
    adapted = adapted_layers(twin)
    for name, layer in adapted.items():
        _pack(twin, name, layer.get_base_layer(), merged_weight(layer), precision)
    for name, module in modules_of(twin).items():
        if isinstance(module, nn.Linear | Conv1D):
            _pack(twin, name, module, plain_weight(module), precision)
    return twin


def _pack(
    network: PreTrainedModel, name: str, module: nn.Linear | Conv1D, weight: Tensor, precision: Precision
) -> None:
    weight = weight.t().contiguous() if isinstance(module, Conv1D) else weight
    bias = cast(Tensor | None, module.bias)
    network.set_submodule(name, PackedLinear(packed(weight, None if bias is None else bias.float(), precision), weight))
