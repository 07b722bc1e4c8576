"""Attention in the place of the transformers library's: from document to document, and ours where it is faster.

B rows, T tokens, H query heads, K key heads, D features of a head, t tokens of one document.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import (
    sdpa_attention_forward,  # pyright: ignore[reportUnknownVariableType]
)
from transformers.masking_utils import sdpa_mask  # pyright: ignore[reportUnknownVariableType]

from ml_playground.models.layers.attention import causal_mask, math_attention
from ml_playground.models.layers.documents import Lengths, apart, together
from ml_playground.models.protocols import Layout

NAMES = {"math": "ml_playground_math", "fused": "ml_playground_fused"}
"""Under which the library knows ours, by `runtime.attention`."""

_BOUNDS = ("sliding_window", "attention_chunk_size")
"""How configs call the newest tokens that some layers attend to."""

_PROBE = 3
"""Tokens of each document of the rows that show whether documents are read apart."""

Way = Literal["alone", "masked", "none"]
"""How a network reads documents apart: one by one, by the library's masks, or not at all."""


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    document_lengths: Lengths | None = None,
    *,
    fused: bool,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Queries (B, H, T, D), keys and values (B, K, T, D) -> (B, T, H, D), as the library asks for it, and no weights."""
    one: Callable[..., Tensor] = partial(_alone, fused=fused, dropout=dropout, scaling=scaling)
    if document_lengths is not None:
        parts = zip(*(apart(each, document_lengths) for each in (query, key, value)), strict=True)
        return together([one(*part) for part in parts], rows=len(query)), None
    plain = attention_mask is None and query.shape == key.shape and not rest.get("position_bias")
    if plain and not fused and query.shape[2] > 1 and getattr(module, "is_causal", True):
        return one(query, key, value).transpose(1, 2), None
    # With a cache, padding or a window the library knows what is meant.
    given = cast(
        tuple[Tensor, Any],
        sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest),
    )
    return given[0], None


def _alone(q: Tensor, k: Tensor, v: Tensor, *, fused: bool, dropout: float, scaling: float | None) -> Tensor:
    """Causal attention within rows: (B, H, T, D), with (B, K, T, D) -> (B, H, T, D)."""
    group = q.shape[1] // k.shape[1]
    if fused:
        return functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=group > 1
        )
    # Gains in float32 make queries and keys so, where values are products in bfloat16.
    q, k = q.to(v.dtype), k.to(v.dtype)
    if group > 1:
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    return math_attention(q, k, v, causal_mask(q.shape[2], dtype=q.dtype, device=q.device), dropout, scale=scaling)


for _kind, _name in NAMES.items():
    AttentionInterface.register(_name, partial(_attend, fused=_kind == "fused"))
    AttentionMaskInterface.register(_name, sdpa_mask)


def takes_ours(network_class: Any) -> bool:
    """Whether a class of the library asks whoever is registered, and no more than keys, values and a mask."""
    backend = getattr(network_class, "_supports_attention_backend", False)
    return bool(backend and getattr(network_class, "_supports_sdpa", False))


def bound_of(network: PreTrainedModel) -> float:
    """Newest tokens that every layer attends to: longer documents are left to the library's masks, which know the layers."""
    text: Any = network.config.get_text_config(decoder=True)
    bounds = [getattr(text, name, None) for name in _BOUNDS]
    return min((bound for bound in bounds if isinstance(bound, int)), default=math.inf)


def arguments_of(layout: Layout, lengths: Lengths | None) -> Mapping[str, Any]:
    """What a network is given beside ids: it finds documents by their positions, or is told their lengths."""
    if lengths is None:
        return {"position_ids": layout.positions}
    # A mask of four dimensions is handed on as it is, so that none is made; ours does not look at it.
    unread = layout.positions.new_empty((1, 1, 1, 1))
    return {"position_ids": layout.positions, "attention_mask": unread, "document_lengths": lengths}


@torch.no_grad()
def way_of(network: PreTrainedModel) -> Way:
    """How this network reads documents apart, tried out: architectures differ in what they pass on to their layers."""
    ours = network.config._attn_implementation in NAMES.values()  # pyright: ignore[reportPrivateUsage]
    was_training = network.training
    network.eval()
    if ours and _isolates(network, "alone"):
        found: Way = "alone"
    else:
        found = "masked" if _isolates(network, "masked") else "none"
    network.train(was_training)
    return found


def _isolates(network: PreTrainedModel, way: Way) -> bool:
    """Whether a document's states are those of a row of its own, whatever stands before it, and wherever it stands in its row."""
    table = cast(nn.Embedding, network.get_input_embeddings()).weight
    ids = (torch.arange(3 * _PROBE, device=table.device) % len(table)).view(3, _PROBE)
    first, second, third = ids
    rows = torch.stack([torch.cat(pair) for pair in ((first, third), (second, third), (third, first))])
    positions = torch.arange(_PROBE, device=table.device).repeat(3, 2)
    lengths = None if way == "masked" else (_PROBE,) * 6
    states = network.base_model(
        input_ids=rows, use_cache=False, **arguments_of(Layout(positions, positions), lengths)
    ).last_hidden_state.float()
    # Read as ever, what begins a row does not depend on what follows. Layers that add something of their own to the mask, as Doge's,
    # would be read without it, apart and yet wrong.
    usual = network.base_model(input_ids=rows, use_cache=False).last_hidden_state[2, :_PROBE].float()
    behind, other, before = states[0, _PROBE:], states[1, _PROBE:], states[2, :_PROBE]
    # Rounding of the products that a training multiplies in; what leaks from another document is far more.
    near = (
        1e-4 if table.dtype is torch.float32 and not torch.is_autocast_enabled(table.device.type) else 3e-2
    ) * float(states.abs().max())
    return all(torch.allclose(behind, same, rtol=0, atol=near) for same in (other, before, usual))
