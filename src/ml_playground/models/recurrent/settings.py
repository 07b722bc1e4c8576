"""Settings of the recurrent models; free of torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ml_playground.configuration.base import Component, Probability
from ml_playground.models.settings import Layers, Vocabulary, Width

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
"""Products of a cell for each number of its state."""
ForgetBias = Annotated[float, Field(ge=-10, le=10)]
"""Beyond these a gate is open or shut for good."""
Taps = Annotated[int, Field(ge=0, le=64)]


class CharRnn(Component):
    """A recurrent network of the kind before transformers: what it knows of a text is one vector a layer, two for an LSTM."""

    kind: Literal["char_rnn"] = "char_rnn"
    """Recurrent network (RNN, GRU or LSTM); for any tokenizer, whatever its name says."""
    cell: Literal["rnn", "gru", "lstm"] = "lstm"
    """`rnn`: one tanh; `gru`: three products, two of them gates; `lstm`: four products and a state of its own for what lasts."""
    n_layer: Layers = 2
    """Cells above each other."""
    n_hidden: Width = 384
    """Width of the state of a layer."""
    n_embd: Width | None = None
    """Width of the embeddings; none: n_hidden."""
    tied_head: bool = True
    """The output layer is the embedding table, with a bias of its own; both must have one width."""
    forget_bias: ForgetBias | None = None
    """What the forget gate of an LSTM begins with; none: 1."""
    dropout: Probability = 0.0
    """On the embeddings and on what each layer gives upwards; never from one token to the next."""
    vocab_size: Vocabulary | None = None
    """Stated only to be checked: it comes from the prepared data."""

    @model_validator(mode="after")
    def _everything_stated_has_an_effect(self) -> "CharRnn":
        if self.cell != "lstm" and self.forget_bias is not None:
            raise ValueError(
                f"forget_bias = {self.forget_bias:g} has no effect with cell = '{self.cell}', which has no forget gate; "
                "remove it or use cell = 'lstm'"
            )
        if self.tied_head and self.embedding_width != self.n_hidden:
            raise ValueError(
                f"n_embd = {self.n_embd} and n_hidden = {self.n_hidden} differ, so the embeddings cannot be the output layer; "
                "use tied_head = false, or one width for both"
            )
        return self

    @property
    def embedding_width(self) -> int:
        """Width of the embeddings as resolved."""
        return self.n_hidden if self.n_embd is None else self.n_embd

    @property
    def first_forget_bias(self) -> float:
        """What the forget gate begins with, as resolved.

        Source: Jozefowicz, Zaremba and Sutskever 2015, "An Empirical Exploration of Recurrent Network Architectures", section 4.
        """
        return 1.0 if self.forget_bias is None else self.forget_bias


class MinGru(Component):
    """A gated recurrence without products along time: trained on all tokens at once, drawn from with a state of constant size."""

    kind: Literal["min_gru"] = "min_gru"
    """Blocks of a minimal GRU and a feed-forward layer."""
    n_layer: Layers = 6
    """Blocks."""
    n_embd: Width = 384
    """Width C of the residual stream."""
    n_hidden: Width | None = None
    """Width of the state of a block; none: 3/2 C."""
    n_inner: Width | None = None
    """Width of the feed-forward layer; none: 4 C."""
    feed_forward: Literal["gelu", "gelu_tanh", "swiglu", "relu2"] = "relu2"
    """Its nonlinearity, as in a `gpt`; `relu2` is the squared rectifier."""
    conv_tokens: Taps = 4
    """Tokens that a short convolution before each recurrence reads, the newest among them; 0: none."""
    tied_head: bool = True
    """The output layer is the embedding table."""
    dropout: Probability = 0.0
    """On embeddings and on what is added to the residual stream."""
    vocab_size: Vocabulary | None = None
    """Stated only to be checked: it comes from the prepared data."""

    @property
    def state_width(self) -> int:
        """Width of the state of a block as resolved."""
        return 3 * self.n_embd // 2 if self.n_hidden is None else self.n_hidden

    @property
    def inner_width(self) -> int:
        """Width of the feed-forward layer as resolved."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner
