"""The same recurrent network, laid out for drawing tokens. B rows, t new tokens, H width of the state, G products of a cell.

What the layer below gives is multiplied for all new tokens at once; only what reads the state goes token by token. Between the
products numbers keep the model's own type.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml_playground.models.layers.packed_linear import Precision, packed
from ml_playground.models.recurrent.state import RecurrentState, empty_state

if TYPE_CHECKING:
    from ml_playground.models.core.char_rnn import CharRnnModel

Carried = tuple[Tensor, ...]
"""What a cell carries: its state (B, H), and the cell state of an LSTM (B, H) behind it."""


def rnn_cell(across: Tensor, along: Tensor, _carried: Carried) -> Carried:
    """Products (B, H) with the layer below and with the state -> what is carried on."""
    return (torch.tanh(across + along),)


def gru_cell(across: Tensor, along: Tensor, carried: Carried) -> Carried:
    """Products (B, 3 H): reset gate, update gate, candidate; source: Cho et al. 2014, arXiv 1406.1078, as cuDNN has it."""
    width = carried[0].shape[1]
    reset, update = torch.sigmoid(across[:, : 2 * width] + along[:, : 2 * width]).chunk(2, dim=1)
    candidate = torch.tanh(torch.addcmul(across[:, 2 * width :], reset, along[:, 2 * width :]))
    return (torch.lerp(candidate, carried[0], update),)


def lstm_cell(across: Tensor, along: Tensor, carried: Carried) -> Carried:
    """Products (B, 4 H): input gate, forget gate, new content, output gate; source: Gers, Schmidhuber and Cummins 2000."""
    take, forget, new, give = (across + along).chunk(4, dim=1)
    content = torch.addcmul(torch.sigmoid(forget) * carried[1], torch.sigmoid(take), torch.tanh(new))
    return torch.sigmoid(give) * torch.tanh(content), content


CELLS: Mapping[str, Callable[[Tensor, Tensor, Carried], Carried]] = {
    "rnn": rnn_cell,
    "gru": gru_cell,
    "lstm": lstm_cell,
}
CARRIES = {"rnn": 1, "gru": 1, "lstm": 2}


class CharRnnDecoder:
    """Next tokens of rows whose states are carried on; a snapshot of the model's weights as they are when it is made."""

    max_context = None

    def __init__(self, model: "CharRnnModel", precision: Precision) -> None:
        self._settings, self._table = model.settings, model.token_embedding.weight.detach()
        self.vocab_size, self.device = model.vocab_size, self._table.device
        self._layers = [DecoderLayer(layer, self._settings.cell, precision) for layer in model.layers]
        head = model.token_embedding if model.output is None else model.output
        self._head = packed(head.weight, model.output_bias, precision)

    def new_state(self, rows: int, length: int, starts: Tensor | None = None) -> RecurrentState:
        """Nothing seen yet; its size does not depend on `length`.

        Args:
            rows: B.
            length: Positions that may follow, padding included.
            starts: (B,) padding positions at the left of each row; None: no padding. Padding leaves the state as it is.

        Raises:
            DataError: `starts` do not fit.
        """
        carried = [(self._settings.n_hidden,)] * CARRIES[self._settings.cell]
        shapes = [carried] * self._settings.n_layer
        return empty_state(shapes, rows, length, starts, dtype=self._table.dtype, device=self.device)

    @torch.no_grad()
    def step(self, ids: Tensor, state: RecurrentState) -> Tensor:
        """Logits (B, V) after the last of `ids` (B, t), which follow what `state` has seen; `state` advances in place.

        Raises:
            DataError: The ids do not belong to the state.
        """
        return self._head(self._states(ids, state)[:, -1])

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """Logits (B, t, V) after each of `ids` (B, t), read from their beginning: what a precision costs is measured with it."""
        x = self._states(ids, self.new_state(rows=ids.shape[0], length=ids.shape[1]))
        return self._head(x.reshape(-1, x.shape[-1])).view(*ids.shape, -1)

    def _states(self, ids: Tensor, state: RecurrentState) -> Tensor:
        """(B, t) -> (B, t, H) of the last layer."""
        real = state.admit(ids)
        x = functional.embedding(ids, self._table)
        for number, layer in enumerate(self._layers):
            x, state.layers[number] = layer(x, state.layers[number], real)
        return x


class DecoderLayer:
    """A cell and its two products."""

    def __init__(self, layer: nn.Module, cell: str, precision: Precision) -> None:
        weights = cast(nn.RNNBase, layer).all_weights[0]
        across, along, across_bias, along_bias = (cast(Tensor, weight).detach() for weight in weights)
        if cell != "gru":
            # Both biases are added to one sum; of a GRU the second one stands inside the reset gate.
            across_bias, along_bias = across_bias + along_bias, None
        self._across, self._along = packed(across, across_bias, precision), packed(along, along_bias, precision)
        self._cell, self._dtype = CELLS[cell], across.dtype

    def __call__(self, x: Tensor, carried: Carried, real: Tensor | None) -> tuple[Tensor, Carried]:
        """(B, t, E) and what was carried here -> (B, t, H) and what is carried on; `real` (B, t, 1) says what is no padding."""
        rows, new, width = x.shape
        across = self._across(x.reshape(rows * new, width)).to(self._dtype).view(rows, new, -1)
        outputs: list[Tensor] = []
        for at in range(new):
            carried = self._cell(across[:, at], self._along(carried[0]).to(self._dtype), carried)
            if real is not None:
                # Padding stands only at the left: before a row's first token its state is zero, and stays so.
                carried = tuple(part * real[:, at] for part in carried)
            outputs.append(carried[0])
        return torch.stack(outputs, dim=1), carried
