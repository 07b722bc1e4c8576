"""A minimal gated recurrence. B rows, T tokens, C width of the residual stream, H of the state, V vocabulary.

z = sigmoid(gate(x)), c = positive(candidate(x)), h_t = (1 - z_t) h_{t-1} + z_t c_t. Neither gate nor candidate reads the state, so all
tokens are computed at once, and the recurrence itself is a scan (recurrent/scan.py).

Source: Feng et al. 2024, "Were RNNs All We Needed?", arXiv 2410.01201, with the blocks of its language models.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from ml_playground.core.values import ModelContext
from ml_playground.models.core.min_gru_decoder import MinGruDecoder
from ml_playground.models.layers.dropout import dropped
from ml_playground.models.layers.feed_forward import feed_forward_of
from ml_playground.models.layers.norm import RmsNorm
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.models.layers.short_convolution import ShortConvolution
from ml_playground.models.recurrent.gates import keep_and_add
from ml_playground.models.recurrent.scan import scanned
from ml_playground.models.recurrent.settings import MinGru
from ml_playground.models.utils.init import initialise
from ml_playground.models.utils.vocabulary import checked_vocab_size

NORM_EPS = 1e-5
RESIDUAL_PROJECTIONS = {"recurrence.projection", "feed_forward.down"}
"""The matrices that write into the residual stream."""


class Recurrence(nn.Module):
    """C -> H, carried along time, -> C."""

    def __init__(self, settings: MinGru) -> None:
        super().__init__()
        width, state = settings.n_embd, settings.state_width
        self.convolution = ShortConvolution(width, settings.conv_tokens) if settings.conv_tokens else None
        self.gate = nn.Linear(width, state)
        self.candidate = nn.Linear(width, state, bias=False)
        self.projection = nn.Linear(state, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        if self.convolution is not None:
            x = self.convolution(x)
        states = scanned(*keep_and_add(self.gate(x), self.candidate(x)))
        return self.projection(states.to(x.dtype))


class Block(nn.Module):
    """Recurrence, then feed-forward, each added to the residual stream."""

    def __init__(self, settings: MinGru) -> None:
        super().__init__()
        self.recurrence_norm = RmsNorm(settings.n_embd, eps=NORM_EPS)
        self.recurrence = Recurrence(settings)
        self.feed_forward_norm = RmsNorm(settings.n_embd, eps=NORM_EPS)
        self.feed_forward = feed_forward_of(settings, bias=False)
        self.dropout = settings.dropout

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self._dropped(self.recurrence(self.recurrence_norm(x)))
        return x + self._dropped(self.feed_forward(self.feed_forward_norm(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        return dropped(x, self.dropout) if self.training and self.dropout else x


class MinGruModel(nn.Module):
    """Token ids to logits of the next token; its context has no end."""

    max_context = None

    def __init__(self, settings: MinGru, *, vocab_size: int, sequence_tokens: int, recompute: bool) -> None:
        super().__init__()
        self.settings = settings.model_copy(update={"vocab_size": vocab_size})
        self.vocab_size, self.recompute = vocab_size, recompute
        self.token_embedding = nn.Embedding(vocab_size, settings.n_embd)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.n_layer))
        self.final_norm = RmsNorm(settings.n_embd, eps=NORM_EPS)
        self.output = None if settings.tied_head else nn.Linear(settings.n_embd, vocab_size, bias=False)
        initialise(self, n_layer=settings.n_layer, residual=RESIDUAL_PROJECTIONS, zero_residual=False)
        for block in self.blocks:
            begin(cast(Block, block).recurrence, sequence_tokens)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of ids (B, T)."""
        return self.head(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """Final normalised states (B, T, C)."""
        draws = self.training and self.settings.dropout > 0
        recompute = self.recompute and torch.is_grad_enabled()
        x = self.token_embedding(ids)
        if draws:
            x = dropped(x, self.settings.dropout)
        for block in self.blocks:
            x = _recomputed(block, x, draws=draws) if recompute else cast(Tensor, block(x))
        return self.final_norm(x)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of states (..., C)."""
        return functional.linear(hidden, self.token_embedding.weight if self.output is None else self.output.weight)

    def decoder(self, precision: Precision) -> MinGruDecoder:
        """A snapshot of this model for drawing tokens, its weights at a precision.

        Raises:
            ConfigError: The precision does not work where the model is.
        """
        return MinGruDecoder(self, precision)

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The matrices inside the blocks; the taps of a convolution are no matrix, for no number meets another."""
        return [
            parameter
            for name, parameter in self.blocks.named_parameters()
            if parameter.ndim > 1 and "convolution" not in name
        ]


def _recomputed(block: nn.Module, x: Tensor, *, draws: bool) -> Tensor:
    """The block's result; what it needs for the way back is computed again then."""
    return cast(Tensor, checkpoint(block, x, use_reentrant=False, preserve_rng_state=draws))


def begin(recurrence: Recurrence, sequence_tokens: int) -> None:
    """Gates that remember for 2 to `sequence_tokens` tokens; a convolution that reads the newest token alone.

    A state that is renewed by z is kept for about 1 / z tokens.

    Source: Tallec and Ollivier 2018, "Can recurrent neural networks warp time?", arXiv 1804.11188, section 2.
    """
    with torch.no_grad():
        recurrence.gate.bias.uniform_(1, max(2, sequence_tokens - 1)).log_().neg_()
    if recurrence.convolution is not None:
        recurrence.convolution.reset_parameters()


def build(settings: MinGru, context: ModelContext) -> MinGruModel:
    """The model for the data at hand, with random weights.

    Raises:
        ConfigError: The stated vocabulary is not that of the data.
    """
    return MinGruModel(
        settings,
        vocab_size=checked_vocab_size(settings.vocab_size, context),
        sequence_tokens=context.facts["sequence_tokens"],
        recompute=context.activation_checkpointing,
    )
