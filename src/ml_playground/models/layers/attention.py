"""Causal self-attention. B rows, T tokens, C width, H query heads, K key heads, D features of a head, S seen positions."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_playground.models.layers.documents import Lengths, apart, together
from ml_playground.models.layers.dropout import dropped
from ml_playground.models.layers.norm import RmsNorm
from ml_playground.models.layers.rotary import Rotation, rotated
from ml_playground.models.settings import Gpt

QUERIES_AT_ONCE = 256
"""Longer rows are attended from in parts of so many queries on the CPU; 128 and 512 are slower at 1024 tokens in bfloat16."""


def causal_mask(length: int, *, dtype: torch.dtype, device: torch.device, window: int | None = None) -> Tensor:
    """(T, T), added to the scores: minus infinity where a key lies behind its query, or `window` tokens or more before it."""
    if window is None:
        return torch.full((length, length), float("-inf"), dtype=dtype, device=device).triu_(1)
    before = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return torch.zeros((), dtype=dtype, device=device).where((before >= 0) & (before < window), float("-inf"))


def math_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    dropout: float,
    *,
    window: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention written out: matrix product, masked softmax, matrix product.

    Scale and mask ride on the first product. The softmax adds up in float32 whatever its input is, so that nothing of
    size T x T is ever widened.

    Args:
        q: Queries, (B, H, T, D).
        k: Keys, (B, H, T, D).
        v: Values, (B, H, T, D).
        mask: (T, T), or (B, 1, T, T) where rows differ; added to the scores.
        dropout: Share of the weights dropped.
        window: Newest tokens that a query attends to, as the mask says too; none: all.
        scale: Of the scores; none: the square root of D divides them.

    Returns:
        (B, H, T, D).
    """
    rows, heads, length, width = q.shape
    factor = width**-0.5 if scale is None else scale
    if mask.ndim > 2:  # noqa: PLR2004
        mask = mask.expand(rows, heads, length, length).reshape(rows * heads, length, length)
    q, k, v = (x.reshape(rows * heads, length, width) for x in (q, k, v))
    if length > QUERIES_AT_ONCE and not dropout and q.device.type == "cpu" and not torch.compiler.is_compiling():
        return cast(Tensor, _AttentionInParts.apply(q, k, v, mask, window, factor)).view(rows, heads, length, width)
    scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=factor)
    weights = functional.softmax(scores, dim=-1)
    if dropout:
        weights = dropped(weights, dropout)
    return torch.bmm(weights, v).view(rows, heads, length, width)


class _AttentionInParts(torch.autograd.Function):
    """The same without most of what the mask hides: some queries at once, and only the keys that one of them may see.

    Forward and backward of (12, 1024, 64) in bfloat16 take 38 ms against 48 on one core, of (12, 2048, 64) 131 against 175,
    in float32 92 against 133; torch's fused kernel 89, 284 and 106.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, window: int | None, scale: float) -> Tensor:
        """(N, T, D) each -> (N, T, D)."""
        length = q.shape[1]
        weights: list[Tensor] = []
        mixed: list[Tensor] = []
        for start in range(0, length, QUERIES_AT_ONCE):
            end = min(start + QUERIES_AT_ONCE, length)
            first = _first_key(start, window)
            scores = torch.baddbmm(mask[..., start:end, first:end], q[:, start:end], k[:, first:end].mT, alpha=scale)
            weights.append(functional.softmax(scores, dim=-1))
            mixed.append(torch.bmm(weights[-1], v[:, first:end]))
        ctx.save_for_backward(q, k, v, *weights)
        ctx.window, ctx.scale = window, scale
        return torch.cat(mixed, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Part by part; what a part gives to its keys and values is added to what the others gave."""
        q, k, v, *weights = cast(tuple[Tensor, ...], ctx.saved_tensors)
        of_q, of_k, of_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for number, part in enumerate(weights):
            start = number * QUERIES_AT_ONCE
            first, end = _first_key(start, ctx.window), start + part.shape[1]
            of_mixed = grad[:, start:end]
            of_v[:, first:end] += torch.bmm(part.mT, of_mixed)
            of_weights = torch.bmm(of_mixed, v[:, first:end].mT)
            of_scores = torch.ops.aten._softmax_backward_data(of_weights, part, -1, part.dtype)
            of_scores.mul_(ctx.scale)
            of_q[:, start:end] = torch.bmm(of_scores, k[:, first:end])
            of_k[:, first:end] += torch.bmm(of_scores.mT, q[:, start:end])
        return of_q, of_k, of_v, None, None, None


def _first_key(query: int, window: int | None) -> int:
    """The oldest that it may see."""
    return 0 if window is None else max(0, query - window + 1)


class Attention(nn.Module):
    """Each token gathers from the tokens before it, or from the newest `window` of them."""

    def __init__(self, settings: Gpt, *, fused: bool, window: int | None) -> None:
        super().__init__()
        self.heads, self.key_heads, self.width = settings.n_head, settings.key_heads, settings.head_width
        self.fused, self.dropout, self.window = fused, settings.attention_drop, window
        self.qkv = nn.Linear(settings.n_embd, (self.heads + 2 * self.key_heads) * self.width, bias=settings.bias)
        self.projection = nn.Linear(self.heads * self.width, settings.n_embd, bias=settings.bias)
        self.query_norm = RmsNorm(self.width, eps=settings.norm_eps) if settings.qk_norm else None
        self.key_norm = RmsNorm(self.width, eps=settings.norm_eps) if settings.qk_norm else None

    def forward(
        self, x: Tensor, rotation: Rotation | None, mask: Tensor | None, lengths: Lengths | None = None
    ) -> Tensor:
        """From (B, T, C) to (B, T, C).

        Args:
            x: The tokens.
            rotation: Of their positions; none where these were added to the embeddings.
            mask: (T, T), or (B, 1, T, T), added to the scores; none where the fused kernel needs none.
            lengths: Of the documents, each of which is attended to by itself; none: by rows, and the mask says all.
        """
        q, k, v = self._split(x, rotation)
        if lengths is None:
            return self.projection(self._attended(q, k, v, mask).transpose(1, 2).flatten(2))
        masks = [None if mask is None else mask[:size, :size] for size in lengths]
        parts = zip(apart(q, lengths), apart(k, lengths), apart(v, lengths), masks, strict=True)
        return self.projection(together([self._attended(*part) for part in parts], rows=len(x)).flatten(2))

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Queries (B, H, T, D), keys and values (B, K, T, D) -> (B, H, T, D)."""
        dropout = self.dropout if self.training else 0.0
        group = self.heads // self.key_heads
        if mask is None:
            return functional.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=group > 1
            )
        if group > 1:
            # Of the fused kernels, those that take a mask take no shared keys.
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        if self.fused:
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return math_attention(q, k, v, mask, dropout, window=self.window)

    def _split(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, D), keys and values (B, K, T, D), normalised and turned."""
        packed = self.qkv(x).unflatten(-1, (-1, self.width))
        if self.query_norm is None and rotation is not None:
            turned, v = torch.split(packed, [self.heads + self.key_heads, self.key_heads], dim=2)
            q, k = torch.split(rotated(turned, rotation), [self.heads, self.key_heads], dim=2)
        else:
            q, k, v = torch.split(packed, [self.heads, self.key_heads, self.key_heads], dim=2)
            if self.query_norm is not None and self.key_norm is not None:
                q, k = self.query_norm(q), self.key_norm(k)
            if rotation is not None:
                q, k = rotated(q, rotation), rotated(k, rotation)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
