"""Causal self-attention. B rows, T tokens, C width, H query heads, K key heads, D features of a head, S seen positions."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_playground.models.layers.dropout import dropped
from ml_playground.models.layers.norm import RmsNorm
from ml_playground.models.layers.rotary import Rotation, rotated
from ml_playground.models.settings import Gpt


def causal_mask(length: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(T, T), added to the scores: minus infinity where a key lies behind its query."""
    return torch.full((length, length), float("-inf"), dtype=dtype, device=device).triu_(1)


def math_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout: float) -> Tensor:
    """Attention written out: matrix product, masked softmax, matrix product.

    Scale and mask ride on the first product. The softmax adds up in float32 whatever its input is, so that nothing of
    size T x T is ever widened.

    Args:
        q: Queries, (B, H, T, D).
        k: Keys, (B, H, T, D).
        v: Values, (B, H, T, D).
        mask: (T, T), added to the scores.
        dropout: Share of the weights dropped.

    Returns:
        (B, H, T, D).
    """
    rows, heads, length, width = q.shape
    q, k, v = (x.reshape(rows * heads, length, width) for x in (q, k, v))
    scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=width**-0.5)
    weights = functional.softmax(scores, dim=-1)
    if dropout:
        weights = dropped(weights, dropout)
    return torch.bmm(weights, v).view(rows, heads, length, width)


class Attention(nn.Module):
    """Each token gathers from the tokens before it."""

    def __init__(self, settings: Gpt, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.key_heads, self.width = settings.n_head, settings.key_heads, settings.head_width
        self.fused, self.dropout = fused, settings.dropout
        self.qkv = nn.Linear(settings.n_embd, (self.heads + 2 * self.key_heads) * self.width, bias=settings.bias)
        self.projection = nn.Linear(self.heads * self.width, settings.n_embd, bias=settings.bias)
        self.query_norm = RmsNorm(self.width, eps=settings.norm_eps) if settings.qk_norm else None
        self.key_norm = RmsNorm(self.width, eps=settings.norm_eps) if settings.qk_norm else None

    def forward(self, x: Tensor, rotation: Rotation | None, mask: Tensor | None) -> Tensor:
        """(B, T, C) -> (B, T, C); `mask` (T, T) is what `math` attention adds to the scores."""
        q, k, v = self._split(x, rotation)
        dropout = self.dropout if self.training else 0.0
        if mask is None:
            shared = self.heads != self.key_heads
            y = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=shared)
        else:
            group = self.heads // self.key_heads
            if group > 1:
                k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
            y = math_attention(q, k, v, mask, dropout)
        return self.projection(y.transpose(1, 2).flatten(2))

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
