"""The same transformer, laid out for drawing tokens. B rows, t new tokens, N = B t, C width, V vocabulary.

H query heads, K key heads, D features of a head, S reserved positions. Weights are packed once; between the products
numbers keep the model's own type, for there are few of them and converting costs more than it saves.
"""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_playground.core.error_handling import DataError
from ml_playground.models.layers.attention import Attention
from ml_playground.models.layers.kv_cache import KeyValueCache
from ml_playground.models.layers.norm import LayerNorm, RmsNorm
from ml_playground.models.layers.packed_feed_forward import packed_feed_forward
from ml_playground.models.layers.packed_linear import Precision, packed
from ml_playground.models.layers.rotary import Rotation, rotated

if TYPE_CHECKING:
    from ml_playground.models.core.gpt import Block, GptModel


class GptDecoder:
    """Next tokens of rows that share a cache; a snapshot of the model's weights as they are when it is made."""

    def __init__(self, model: "GptModel", precision: Precision) -> None:
        self._model, self._settings = model, model.settings
        weight = model.token_embedding.weight.detach()
        self.vocab_size, self.max_context, self.device = model.vocab_size, model.block_size, weight.device
        self._table = weight
        # Few numbers are cached for each token, and a CPU multiplies a vector and a small matrix best in float32.
        halved = precision != "float32" and weight.device.type != "cpu"
        self._cache_dtype = torch.bfloat16 if halved else weight.dtype
        self._blocks = [
            DecoderBlock(
                cast("Block", block), precision, cache_dtype=self._cache_dtype, kind=self._settings.feed_forward
            )
            for block in model.blocks
        ]
        self._final_norm = Norm(model.final_norm)
        self._head = packed(weight if model.output is None else model.output.weight, None, precision)

    def new_state(self, rows: int, length: int, starts: Tensor | None = None) -> KeyValueCache:
        """An empty cache for `rows` rows of at most `length` positions.

        Args:
            rows: B.
            length: Positions to reserve, padding included.
            starts: (B,) padding positions at the left of each row; None: no padding.

        Raises:
            DataError: More real positions than block_size, or `starts` that do not fit.
        """
        if starts is not None and (starts.shape != (rows,) or int(starts.min()) < 0 or int(starts.max()) >= length):
            raise DataError(
                f"starts must hold one number from 0 to {length - 1} for each of {rows} rows, got {starts.tolist()}."
            )
        longest = length - (0 if starts is None else int(starts.min()))
        if longest > self.max_context:
            raise DataError(
                f"The model reads at most block_size = {self.max_context} tokens, but {longest} were asked for; "
                "shorten the prompt or generate fewer tokens."
            )
        shape = (rows, self._settings.key_heads, length, self._settings.head_width)
        windows = [self._settings.window_of(block) for block in range(len(self._blocks))]
        return KeyValueCache.empty(windows, shape, starts, dtype=self._cache_dtype, device=self.device)

    @torch.no_grad()
    def step(self, ids: Tensor, state: KeyValueCache) -> Tensor:
        """Logits (B, V) after the last of `ids` (B, t), which follow what `state` has seen; `state` advances in place.

        Raises:
            DataError: The ids do not fit into the state.
        """
        x = self._states(ids, state)
        return self._head(self._final_norm(x if ids.shape[1] == 1 else x.view(*ids.shape, -1)[:, -1]))

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """Logits (B, t, V) after each of `ids` (B, t), read from their beginning: what a precision costs is measured with it.

        Raises:
            DataError: More tokens than block_size.
        """
        states = self._states(ids, self.new_state(rows=ids.shape[0], length=ids.shape[1]))
        return self._head(self._final_norm(states)).view(*ids.shape, -1)

    def _states(self, ids: Tensor, state: KeyValueCache) -> Tensor:
        """(B, t) -> (N, C) behind the last block."""
        state.admit(ids)
        rows, new = ids.shape
        x = functional.embedding(ids, self._table)
        if self._model.bigram_embedding is not None:
            x = x + self._model.bigram_embedding(ids, state.previous_of(ids))
        positions = state.positions(new)
        rotation = None
        if self._model.position_embedding is not None:
            x = x + functional.embedding(positions, self._model.position_embedding.weight.detach())
        if self._model.rotary is not None:
            rotation = self._model.rotary.at(positions, self._cache_dtype)
        group = self._settings.n_head // self._settings.key_heads
        masks = {
            window: state.mask(new, self._cache_dtype, queries=group, window=window) for window in set(state.windows)
        }
        x = x.view(rows * new, -1)
        for number, block in enumerate(self._blocks):
            x = block(x, rotation, masks[state.windows[number]], state, number)
        state.seen, state.last = state.seen + new, ids[:, -1]
        return x


class Norm:
    """A normalisation without a module around it."""

    def __init__(self, norm: nn.Module) -> None:
        norm = cast(LayerNorm | RmsNorm, norm)
        self._weight, self._shape, self._eps = norm.weight.detach(), (norm.width,), norm.eps
        self._centred = isinstance(norm, LayerNorm)
        self._bias = norm.bias.detach() if isinstance(norm, LayerNorm) and norm.bias is not None else None

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C) -> (N, C)."""
        if self._centred:
            return functional.layer_norm(x, self._shape, self._weight, self._bias, self._eps)
        return functional.rms_norm(x, self._shape, self._weight, self._eps)


class DecoderBlock:
    """Attention to what was seen, then feed-forward, each added to the residual stream."""

    def __init__(self, block: "Block", precision: Precision, *, cache_dtype: torch.dtype, kind: str) -> None:
        self._attention_norm, self._feed_forward_norm = Norm(block.attention_norm), Norm(block.feed_forward_norm)
        self._attention = DecoderAttention(block.attention, precision, dtype=cache_dtype)
        self._feed_forward = packed_feed_forward(block.feed_forward, kind, precision)

    def __call__(
        self, x: Tensor, rotation: Rotation | None, mask: Tensor | None, cache: KeyValueCache, number: int
    ) -> Tensor:
        """(N, C) -> (N, C)."""
        x = x + self._attention(self._attention_norm(x), rotation, mask, cache, number)
        return x + self._feed_forward(self._feed_forward_norm(x))


class DecoderAttention:
    """Queries of the new tokens against the keys of all that was seen."""

    def __init__(self, layer: Attention, precision: Precision, *, dtype: torch.dtype) -> None:
        self._heads, self._key_heads, self._width = layer.heads, layer.key_heads, layer.width
        self._dtype = dtype
        self._qkv = packed(layer.qkv.weight, layer.qkv.bias, precision)
        self._projection = packed(layer.projection.weight, layer.projection.bias, precision)
        self._gain: Tensor | None = None
        if layer.query_norm is not None and layer.key_norm is not None:
            self._eps = layer.query_norm.eps
            query, key = layer.query_norm.weight.detach(), layer.key_norm.weight.detach()
            self._gain = torch.stack([query] * self._heads + [key] * self._key_heads).to(dtype)

    def __call__(
        self, x: Tensor, rotation: Rotation | None, mask: Tensor | None, cache: KeyValueCache, number: int
    ) -> Tensor:
        """(N, C) -> (N, C)."""
        rows, turning = cache.rows, self._heads + self._key_heads
        heads = self._qkv(x).to(self._dtype).view(rows, -1, turning + self._key_heads, self._width)
        new = heads.shape[1]
        if self._gain is not None or rotation is not None:
            turned = heads.narrow(2, 0, turning)
            if self._gain is not None:
                turned = functional.rms_norm(turned, (self._width,), None, self._eps) * self._gain
            heads.narrow(2, 0, turning).copy_(turned if rotation is None else rotated(turned, rotation))
        keys, values = cache.append(number, heads.narrow(2, self._heads, 2 * self._key_heads))
        # All queries of a group stand in the rows of one product with their shared keys, which are never copied.
        q = heads.narrow(2, 0, self._heads).transpose(1, 2).reshape(rows, self._key_heads, -1, self._width)
        y = functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        if new > 1:
            y = y.view(rows, self._heads, new, self._width).transpose(1, 2)
        return self._projection(y.reshape(rows * new, -1))
