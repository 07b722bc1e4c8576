"""A table of logits, and what draws from it. B rows, T tokens, V vocabulary."""

import copy

import torch
from torch import Tensor, nn

from ml_playground.core.values import ModelContext
from ml_playground.models.layers.packed_linear import Precision
from ml_playground_dice.settings import Bigram


class BigramModel(nn.Module):
    """Logits of the next token, from the last one (models.protocols.NextTokenModel)."""

    max_context = None

    def __init__(self, settings: Bigram, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.table = nn.Embedding(vocab_size, vocab_size)
        nn.init.normal_(self.table.weight, std=settings.init_std)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of ids (B, T)."""
        return self.head(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """Rows of the table (B, T, V)."""
        return self.table(ids)

    def head(self, hidden: Tensor) -> Tensor:
        """The same: a row holds logits already."""
        return hidden

    def decoder(self, precision: Precision) -> "BigramDecoder":
        """A snapshot; a table of float32 is as small as it gets, so every precision is this one."""
        del precision
        return BigramDecoder(copy.deepcopy(self).eval())


class BigramDecoder:
    """Draws token after token; needs to remember nothing (models.protocols.Decoder)."""

    max_context = None

    def __init__(self, model: BigramModel) -> None:
        self._model = model
        self.vocab_size = model.vocab_size

    @property
    def device(self) -> torch.device:
        """Where the table is."""
        return self._model.table.weight.device

    def new_state(self, rows: int, length: int, starts: Tensor | None = None) -> "Nothing":
        """An empty state."""
        del rows, length, starts
        return Nothing()

    @torch.no_grad()
    def step(self, ids: Tensor, state: "Nothing") -> Tensor:
        """Logits (B, V) after the last of `ids` (B, t)."""
        del state
        return self._model(ids[:, -1])

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of ids (B, T)."""
        return self._model(ids)


class Nothing:
    """What a bigram remembers of the tokens before the last."""


def build(settings: Bigram, context: ModelContext) -> BigramModel:
    """The model for the data at hand; its random numbers come from torch's global stream, which the engine seeds."""
    return BigramModel(settings, context.facts["vocab_size"])
