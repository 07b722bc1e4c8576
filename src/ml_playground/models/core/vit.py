"""A small vision transformer. B images, T patches, C width, H heads, D features of a head, K classes.

Source: Dosovitskiy et al. 2021, arXiv 2010.11929; the mean of all patches instead of a class token after Beyer et al. 2022,
arXiv 2205.01580.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from ml_playground.core.error_handling import ConfigError
from ml_playground.core.values import ModelContext
from ml_playground.models.images.counting import patches
from ml_playground.models.images.settings import Vit
from ml_playground.models.layers.dropout import dropped
from ml_playground.models.layers.norm import LayerNorm
from ml_playground.models.utils.init import EMBEDDING_AND_LINEAR_STD

RESIDUAL_PROJECTIONS = ("attention.projection.weight", "feed_forward.down.weight")
"""The matrices that write into the residual stream."""
NORM_EPS = 1e-5


class PatchAttention(nn.Module):
    """Each patch gathers from all patches."""

    def __init__(self, settings: Vit, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused, self.dropout = settings.n_head, fused, settings.dropout
        self.qkv = nn.Linear(settings.n_embd, 3 * settings.n_embd)
        self.projection = nn.Linear(settings.n_embd, settings.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        dropout = self.dropout if self.training else 0.0
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        else:
            weights = functional.softmax((q * q.shape[-1] ** -0.5) @ k.mT, dim=-1)
            y = (dropped(weights, dropout) if dropout else weights) @ v
        return self.projection(y.transpose(1, 2).flatten(2))


class PatchFeedForward(nn.Module):
    """C -> inner width -> C with GELU between."""

    def __init__(self, settings: Vit) -> None:
        super().__init__()
        self.up = nn.Linear(settings.n_embd, settings.inner_width)
        self.down = nn.Linear(settings.inner_width, settings.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.down(functional.gelu(self.up(x)))


class PatchBlock(nn.Module):
    """Attention, then feed-forward, each added to the residual stream."""

    def __init__(self, settings: Vit, *, fused: bool) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(settings.n_embd, eps=NORM_EPS, bias=True)
        self.attention = PatchAttention(settings, fused=fused)
        self.feed_forward_norm = LayerNorm(settings.n_embd, eps=NORM_EPS, bias=True)
        self.feed_forward = PatchFeedForward(settings)
        self.dropout = settings.dropout

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self._dropped(self.attention(self.attention_norm(x)))
        return x + self._dropped(self.feed_forward(self.feed_forward_norm(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        return dropped(x, self.dropout) if self.training and self.dropout else x


class VitModel(nn.Module):
    """Images to logits of their classes."""

    def __init__(self, settings: Vit, *, channels: int, count: int, classes: int, fused: bool, recompute: bool) -> None:
        """`count` is T."""
        super().__init__()
        self.classes, self.dropout, self.recompute = classes, settings.dropout, recompute
        self.patch_size = settings.patch_size
        self.patch_embedding = nn.Linear(channels * settings.patch_size**2, settings.n_embd)
        self.position_embedding = nn.Embedding(count, settings.n_embd)
        self.blocks = nn.ModuleList(PatchBlock(settings, fused=fused) for _ in range(settings.n_layer))
        self.final_norm = LayerNorm(settings.n_embd, eps=NORM_EPS, bias=True)
        self.head = nn.Linear(settings.n_embd, classes)
        self._initialise(settings.n_layer)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, channels, height, width)."""
        side = self.patch_size
        # (B, channels, rows, side, columns, side) -> (B, T, channels * side * side)
        rows = cast(Tensor, images.unflatten(3, (-1, side)))
        tiles = cast(Tensor, rows.unflatten(2, (-1, side))).permute(0, 2, 4, 1, 3, 5)
        x = self.patch_embedding(tiles.flatten(3).flatten(1, 2)) + self.position_embedding.weight
        draws = self.training and self.dropout > 0
        if draws:
            x = dropped(x, self.dropout)
        recompute = self.recompute and torch.is_grad_enabled()
        for block in self.blocks:
            if not recompute:
                x = cast(Tensor, block(x))
                continue
            x = cast(Tensor, checkpoint(block, x, use_reentrant=False, preserve_rng_state=draws))
        return self.head(self.final_norm(x).mean(1))

    def _initialise(self, n_layer: int) -> None:
        """Matrices by their sides, for these are narrow: with GPT-2's spread, which is for a thousand numbers, patches and attention
        would say next to nothing, and digits came to 90 % in 2,000 steps. The head begins near zero, so that the first loss is ln K.
        """
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:  # noqa: PLR2004 - a vector is a bias or a gain
                if name.endswith("bias"):
                    nn.init.zeros_(parameter)
            elif name in ("head.weight", "position_embedding.weight"):
                nn.init.normal_(parameter, std=EMBEDDING_AND_LINEAR_STD)
            else:
                # What the blocks add to the residual stream is a sum of so many.
                adds = name.endswith(RESIDUAL_PROJECTIONS)
                nn.init.xavier_uniform_(parameter, gain=(2 * n_layer) ** -0.5 if adds else 1.0)

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The matrices inside the blocks, as Muon asks."""
        return [parameter for parameter in self.blocks.parameters() if parameter.ndim > 1]


def build(settings: Vit, context: ModelContext) -> VitModel:
    """The model for the images at hand, with random weights.

    Raises:
        ConfigError: The images cannot be cut into patches of this size.
    """
    facts = context.facts
    height, width, side = facts["height"], facts["width"], settings.patch_size
    if height % side or width % side:
        fitting = [size for size in range(1, min(height, width) + 1) if height % size == width % size == 0]
        raise ConfigError(
            f"model.patch_size = {side} does not divide images of {height} x {width}; use {' or '.join(map(str, fitting))}."
        )
    return VitModel(
        settings,
        channels=facts["channels"],
        count=patches(settings, facts),
        classes=facts["classes"],
        fused=context.attention == "fused",
        recompute=context.activation_checkpointing,
    )
