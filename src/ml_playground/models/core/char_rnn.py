"""A recurrent network. B rows, T tokens, E width of embeddings, H of the state, V vocabulary, G products of a cell.

Training reads each window from a state of zeros. torch's own layers compute a whole window with one call: oneDNN for LSTM on a CPU,
cuDNN on CUDA.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from ml_playground.core.values import ModelContext
from ml_playground.models.core.char_rnn_decoder import CharRnnDecoder
from ml_playground.models.layers.dropout import dropped
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.models.recurrent.settings import GATES, CharRnn
from ml_playground.models.utils.vocabulary import checked_vocab_size

CELLS: dict[str, Callable[[int, int], nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
FORGET_GATE = 1
"""Place of the forget gate among an LSTM's, as torch orders them: input, forget, cell, output."""
EMBEDDING_RANGE = 0.1
"""Embeddings and head begin within this range; source: Merity, Keskar and Socher 2018 (AWD-LSTM), arXiv 1708.02182, section 5."""


class CharRnnModel(nn.Module):
    """Token ids to logits of the next token, through a state that is carried from token to token."""

    max_context = None

    def __init__(self, settings: CharRnn, *, vocab_size: int, recompute: bool) -> None:
        super().__init__()
        self.settings = settings.model_copy(update={"vocab_size": vocab_size})
        self.vocab_size, self.recompute = vocab_size, recompute
        self.token_embedding = nn.Embedding(vocab_size, settings.embedding_width)
        widths = [settings.embedding_width, *[settings.n_hidden] * (settings.n_layer - 1)]
        # One layer a module: dropout between them is then ours, seeded and fast, and each can be recomputed alone.
        self.layers = nn.ModuleList(CELLS[settings.cell](width, settings.n_hidden) for width in widths)
        self.output = None if settings.tied_head else nn.Linear(settings.n_hidden, vocab_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocab_size))
        initialise(self)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of ids (B, T)."""
        return self.head(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """States of the last layer (B, T, H)."""
        draws = self.training and self.settings.dropout > 0
        recompute = self.recompute and torch.is_grad_enabled()
        # Time comes first inside: a layer then reads one token of all rows as one block of memory.
        x = self._dropped(self.token_embedding(ids.T), draws=draws)
        for layer in self.layers:
            if recompute:
                x = cast(Tensor, checkpoint(_through, layer, x, use_reentrant=False, preserve_rng_state=False))
            else:
                x = _through(layer, x)
            x = self._dropped(x, draws=draws)
        return x.transpose(0, 1)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of states (..., H)."""
        table = self.token_embedding if self.output is None else self.output
        return functional.linear(hidden, table.weight, self.output_bias)

    def decoder(self, precision: Precision) -> CharRnnDecoder:
        """A snapshot of this model for drawing tokens, its weights at a precision.

        Raises:
            ConfigError: The precision does not work where the model is.
        """
        return CharRnnDecoder(self, precision)

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The matrices of the cells, all gates of one beneath each other."""
        return [parameter for parameter in self.layers.parameters() if parameter.ndim > 1]

    def _dropped(self, x: Tensor, *, draws: bool) -> Tensor:
        """Source: Zaremba, Sutskever and Vinyals 2014, arXiv 1409.2329: never on what is carried along time."""
        return dropped(x, self.settings.dropout) if draws else x


def _through(layer: nn.Module, x: Tensor) -> Tensor:
    """(T, B, ...) -> (T, B, H)."""
    return layer(x)[0]


def initialise(model: CharRnnModel) -> None:
    """Random weights, gate by gate: Glorot for what reads the layer below, orthogonal for what reads the state, zero biases.

    Sources: Glorot and Bengio 2010; Saxe, McClelland and Ganguli 2014, arXiv 1312.6120, for the orthogonal ones.
    """
    settings = model.settings
    nn.init.uniform_(model.token_embedding.weight, -EMBEDDING_RANGE, EMBEDDING_RANGE)
    if model.output is not None:
        nn.init.uniform_(model.output.weight, -EMBEDDING_RANGE, EMBEDDING_RANGE)
    for layer in model.layers:
        for name, parameter in layer.named_parameters():
            gates = parameter.detach().chunk(GATES[settings.cell])
            for gate in gates:
                if name.startswith("weight_ih"):
                    nn.init.xavier_uniform_(gate)
                elif name.startswith("weight_hh"):
                    nn.init.orthogonal_(gate)
                else:
                    nn.init.zeros_(gate)
            if settings.cell == "lstm" and name.startswith("bias_ih"):
                gates[FORGET_GATE].fill_(settings.first_forget_bias)


def build(settings: CharRnn, context: ModelContext) -> CharRnnModel:
    """The model for the data at hand, with random weights.

    Raises:
        ConfigError: The stated vocabulary is not that of the data.
    """
    vocab_size = checked_vocab_size(settings.vocab_size, context)
    return CharRnnModel(settings, vocab_size=vocab_size, recompute=context.activation_checkpointing)
