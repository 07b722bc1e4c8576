"""Settings of the models; free of torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ml_playground.configuration.base import Component, ConfigPath, Positive, Probability

ROPE_THETA = 10000.0
"""The base that RoFormer and Llama use."""

# No machine holds a model near these. They bound what a file that came from elsewhere can make this program build.
Layers = Annotated[int, Field(ge=1, le=2_000)]
Heads = Annotated[int, Field(ge=1, le=1 << 16)]
Width = Annotated[int, Field(ge=1, le=1 << 22)]
Positions = Annotated[int, Field(ge=1, le=1 << 24)]
Rows = Annotated[int, Field(ge=0, le=1 << 32)]
Vocabulary = Annotated[int, Field(ge=1, le=1 << 32)]


class Gpt(Component):
    """A decoder-only transformer: GPT-2 as it was by default, the modern layout by its options."""

    kind: Literal["gpt"] = "gpt"
    """Transformer decoder."""
    n_layer: Layers = 6
    """Blocks."""
    n_head: Heads = 6
    """Query heads of a block."""
    n_kv_head: Heads | None = None
    """Key and value heads, shared by groups of query heads; none: as many as n_head."""
    n_embd: Width = 384
    """Width C of the residual stream."""
    head_dim: Width | None = None
    """Width of a head; none: n_embd / n_head. Small Qwen3 models have wider heads than that."""
    n_inner: Width | None = None
    """Width of the feed-forward layer; none: 4 C, or 8/3 C rounded up to a multiple of 64 for swiglu."""
    block_size: Positions | None = None
    """Longest context in tokens; none: data.sequence_tokens."""
    position: Literal["learned", "rotary"] = "learned"
    """`learned`: a table added to the embeddings; `rotary`: queries and keys turned by their position."""
    rope_theta: Positive = ROPE_THETA
    """Base of the rotary wavelengths."""
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm"
    """Normalisation before attention, feed-forward and head."""
    norm_eps: Positive = 1e-5
    """Added to the variance."""
    feed_forward: Literal["gelu", "gelu_tanh", "swiglu", "relu2"] = "gelu"
    """`gelu_tanh` is what GPT-2's published weights need, slower on a CPU; `swiglu` Llama's and Qwen's; `relu2` the squared rectifier."""
    qk_norm: bool = False
    """RMS-normalise queries and keys of each head, with a learned gain."""
    bias: bool = True
    """Biases in linear layers and in LayerNorm."""
    tied_head: bool = True
    """The output layer is the embedding table."""
    bigram_rows: Rows = 0
    """Most rows of a table of embeddings of (previous, current) token pairs, added to the input; hashed if V (V + 1) is more; 0 none."""
    zero_init: bool = False
    """Start the projections into the residual stream at zero, so that each block begins as the identity."""
    dropout: Probability = 0.0
    """On embeddings, attention and what is added to the residual stream."""
    weights: ConfigPath | None = None
    """A Hugging Face folder (GPT-2, Llama or Qwen3 layout) to start from; none: random weights."""
    vocab_size: Vocabulary | None = None
    """Stated only to be checked: it comes from the prepared data."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "Gpt":
        if self.head_dim is None and self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd = {self.n_embd} is not a multiple of n_head = {self.n_head}; "
                f"use n_embd = {-(-self.n_embd // self.n_head) * self.n_head}, another n_head, or state head_dim"
            )
        if self.n_kv_head is not None and self.n_head % self.n_kv_head:
            raise ValueError(
                f"n_head = {self.n_head} is not a multiple of n_kv_head = {self.n_kv_head}; "
                "each key head serves an equal group of query heads"
            )
        if self.position == "rotary" and self.head_width % 2:
            origin = "n_embd / n_head" if self.head_dim is None else "head_dim"
            raise ValueError(
                f"a head is {origin} = {self.head_width} wide, but rotary positions turn pairs; make it even"
            )
        return self

    @model_validator(mode="after")
    def _everything_stated_has_an_effect(self) -> "Gpt":
        if self.position == "learned" and self.rope_theta != ROPE_THETA:
            raise ValueError(
                f"rope_theta = {self.rope_theta:g} has no effect with position = 'learned'; "
                "remove it or use position = 'rotary'"
            )
        if self.weights is not None and self.zero_init:
            raise ValueError(
                f"zero_init = true has no effect with weights = '{self.weights}', which replace all; remove one of them"
            )
        return self

    @property
    def key_heads(self) -> int:
        """Key and value heads as resolved."""
        return self.n_head if self.n_kv_head is None else self.n_kv_head

    @property
    def head_width(self) -> int:
        """Width of a head as resolved."""
        return self.n_embd // self.n_head if self.head_dim is None else self.head_dim

    def bigram_table_rows(self, vocab_size: int) -> int:
        """Rows of the table of token pairs: one for each pair, a first token's missing predecessor among them, if they fit."""
        return min(self.bigram_rows, (vocab_size + 1) * vocab_size)

    @property
    def inner_width(self) -> int:
        """Width of the feed-forward layer as resolved."""
        if self.n_inner is not None:
            return self.n_inner
        if self.feed_forward != "swiglu":
            return 4 * self.n_embd
        # Three matrices of 8/3 C cost as much as two of 4 C; multiples of 64 keep them fast.
        return -(-8 * self.n_embd // (3 * 64)) * 64
