"""Settings of the models; free of torch."""

from typing import Literal

from pydantic import model_validator

from ml_playground.configuration.base import Component, ConfigPath, Count, Positive, Probability


class Gpt(Component):
    """A decoder-only transformer: GPT-2 as it was by default, the modern layout by its options."""

    kind: Literal["gpt"] = "gpt"
    """Transformer decoder."""
    n_layer: Count = 6
    """Blocks."""
    n_head: Count = 6
    """Query heads of a block."""
    n_kv_head: Count | None = None
    """Key and value heads, shared by groups of query heads; none: as many as n_head."""
    n_embd: Count = 384
    """Width C of the residual stream."""
    n_inner: Count | None = None
    """Width of the feed-forward layer; none: 4 C, or 8/3 C rounded up to a multiple of 64 for swiglu."""
    block_size: Count | None = None
    """Longest context in tokens; none: data.sequence_tokens."""
    position: Literal["learned", "rotary"] = "learned"
    """`learned`: a table added to the embeddings; `rotary`: queries and keys turned by their position."""
    rope_theta: Positive = 10000.0
    """Base of the rotary wavelengths."""
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm"
    """Normalisation before attention, feed-forward and head."""
    norm_eps: Positive = 1e-5
    """Added to the variance."""
    feed_forward: Literal["gelu", "gelu_tanh", "swiglu", "relu2"] = "gelu_tanh"
    """`gelu_tanh` is GPT-2's; `swiglu` Llama's and Qwen's; `relu2` the squared rectifier."""
    qk_norm: bool = False
    """RMS-normalise queries and keys of each head, with a learned gain."""
    bias: bool = True
    """Biases in linear layers and in LayerNorm."""
    tied_head: bool = True
    """The output layer is the embedding table."""
    zero_init: bool = False
    """Start the projections into the residual stream at zero, so that each block begins as the identity."""
    dropout: Probability = 0.0
    """On embeddings, attention and what is added to the residual stream."""
    weights: ConfigPath | None = None
    """A Hugging Face folder (GPT-2, Llama or Qwen3 layout) to start from; none: random weights."""
    vocab_size: Count | None = None
    """Stated only to be checked: it comes from the prepared data."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "Gpt":
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd = {self.n_embd} is not a multiple of n_head = {self.n_head}; "
                f"use n_embd = {-(-self.n_embd // self.n_head) * self.n_head} or another n_head"
            )
        if self.n_kv_head is not None and self.n_head % self.n_kv_head:
            raise ValueError(
                f"n_head = {self.n_head} is not a multiple of n_kv_head = {self.n_kv_head}; "
                "each key head serves an equal group of query heads"
            )
        if self.position == "rotary" and (self.n_embd // self.n_head) % 2:
            raise ValueError(
                f"a head is n_embd / n_head = {self.n_embd // self.n_head} wide, but rotary positions turn pairs; "
                "make it even"
            )
        return self
