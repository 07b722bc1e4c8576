"""The same minimal recurrence, laid out for drawing tokens. B rows, t new tokens, N = B t, C width, H of the state, K taps."""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional

from ml_playground.models.core.gpt_decoder import Norm
from ml_playground.models.layers.packed_feed_forward import packed_feed_forward
from ml_playground.models.layers.packed_linear import Precision, packed
from ml_playground.models.layers.short_convolution import convolved
from ml_playground.models.recurrent.gates import keep_and_add
from ml_playground.models.recurrent.state import RecurrentState, empty_state

if TYPE_CHECKING:
    from ml_playground.models.core.min_gru import Block, MinGruModel, Recurrence

Carried = tuple[Tensor, ...]
"""What a block carries: its state (B, H), and behind it what its convolution has read last (B, K - 1, C)."""


class MinGruDecoder:
    """Next tokens of rows whose states are carried on; a snapshot of the model's weights as they are when it is made."""

    max_context = None

    def __init__(self, model: "MinGruModel", precision: Precision) -> None:
        self._settings, self._table = model.settings, model.token_embedding.weight.detach()
        self.vocab_size, self.device = model.vocab_size, self._table.device
        kind = self._settings.feed_forward
        self._blocks = [DecoderBlock(cast("Block", block), precision, kind) for block in model.blocks]
        self._final_norm = Norm(model.final_norm)
        head = model.token_embedding if model.output is None else model.output
        self._head = packed(head.weight, None, precision)

    def new_state(self, rows: int, length: int, starts: Tensor | None = None) -> RecurrentState:
        """Nothing seen yet; its size does not depend on `length`.

        Args:
            rows: B.
            length: Positions that may follow, padding included.
            starts: (B,) padding positions at the left of each row; None: no padding. Padding leaves the state as it is.

        Raises:
            DataError: `starts` do not fit.
        """
        settings = self._settings
        carried: list[tuple[int, ...]] = [(settings.state_width,)]
        if settings.conv_tokens:
            carried.append((settings.conv_tokens - 1, settings.n_embd))
        shapes = [carried] * settings.n_layer
        return empty_state(shapes, rows, length, starts, dtype=self._table.dtype, device=self.device)

    @torch.no_grad()
    def step(self, ids: Tensor, state: RecurrentState) -> Tensor:
        """Logits (B, V) after the last of `ids` (B, t), which follow what `state` has seen; `state` advances in place.

        Raises:
            DataError: The ids do not belong to the state.
        """
        return self._head(self._final_norm(self._states(ids, state)[:, -1]))

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """Logits (B, t, V) after each of `ids` (B, t), read from their beginning: what a precision costs is measured with it."""
        x = self._states(ids, self.new_state(rows=ids.shape[0], length=ids.shape[1]))
        return self._head(self._final_norm(x.view(-1, x.shape[-1]))).view(*ids.shape, -1)

    def _states(self, ids: Tensor, state: RecurrentState) -> Tensor:
        """(B, t) -> (B, t, C) behind the last block."""
        real = state.admit(ids)
        x = functional.embedding(ids, self._table)
        for number, block in enumerate(self._blocks):
            x, state.layers[number] = block(x, state.layers[number], real)
        return x


class DecoderBlock:
    """The recurrence, gone on with, then feed-forward, each added to the residual stream."""

    def __init__(self, block: "Block", precision: Precision, kind: str) -> None:
        self._recurrence_norm, self._feed_forward_norm = Norm(block.recurrence_norm), Norm(block.feed_forward_norm)
        self._recurrence = DecoderRecurrence(block.recurrence, precision)
        self._feed_forward = packed_feed_forward(block.feed_forward, kind, precision)

    def __call__(self, x: Tensor, carried: Carried, real: Tensor | None) -> tuple[Tensor, Carried]:
        """(B, t, C) and what was carried here -> (B, t, C) and what is carried on; `real` (B, t, 1) says what is no padding."""
        read, carried = self._recurrence(self._recurrence_norm(x), carried, real)
        rows, new, width = x.shape
        x = (x + read).view(rows * new, width)
        return (x + self._feed_forward(self._feed_forward_norm(x))).view(rows, new, width), carried


class DecoderRecurrence:
    """Gate and candidate as one product."""

    def __init__(self, layer: "Recurrence", precision: Precision) -> None:
        gate, candidate = layer.gate, layer.candidate
        self._taps = None if layer.convolution is None else layer.convolution.weight.detach()
        self._dtype = gate.weight.dtype
        bias = torch.cat([gate.bias, torch.zeros_like(gate.bias)])
        self._both = packed(torch.cat([gate.weight, candidate.weight]), bias, precision)
        self._projection = packed(layer.projection.weight, None, precision)

    def __call__(self, x: Tensor, carried: Carried, real: Tensor | None) -> tuple[Tensor, Carried]:
        """(B, t, C) -> (B, t, C), and what is carried on."""
        rows, new, width = x.shape
        if real is not None:
            x = x * real
        state, *window = carried
        if self._taps is not None:
            longer = torch.cat([window[0], x], dim=1)
            x, window = convolved(longer, self._taps), [longer[:, new:]]
        gate, candidate = self._both(x.reshape(rows * new, width)).to(self._dtype).view(rows, new, -1).chunk(2, dim=-1)
        keep, add = keep_and_add(gate, candidate)
        if real is not None:
            # Padding stands only at the left: before a row's first token its state is zero, and nothing is added to it.
            add = add * real
        states = torch.empty_like(add)
        for at in range(new):
            state = torch.addcmul(add[:, at], keep[:, at], state, out=states[:, at])
        return self._projection(states.view(rows * new, -1)).to(self._dtype).view(rows, new, width), (state, *window)
