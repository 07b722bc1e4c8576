"""Settings of the models; free of torch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ml_playground.configuration.base import Component, ConfigPath, NonNegative, Positive, Probability

ROPE_THETA = 10000.0
"""The base that RoFormer and Llama use."""

# No machine holds a model near these. They bound what a file that came from elsewhere can make this program build.
Layers = Annotated[int, Field(ge=1, le=2_000)]
Heads = Annotated[int, Field(ge=1, le=1 << 16)]
Width = Annotated[int, Field(ge=1, le=1 << 22)]
Positions = Annotated[int, Field(ge=1, le=1 << 24)]
Rows = Annotated[int, Field(ge=0, le=1 << 32)]
Vocabulary = Annotated[int, Field(ge=1, le=1 << 32)]
ExpertCount = Annotated[int, Field(ge=0, le=1 << 12)]
Used = Annotated[int, Field(ge=1, le=1 << 12)]

ROUTING = ("n_expert_used", "expert_balance", "expert_z_loss")
"""Settings that only a router heeds."""


class Gpt(Component):
    """A decoder-only transformer: GPT-2 as it was by default, the modern layout by its options."""

    isolates_documents: ClassVar[bool] = True

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
    attention_window: Positions | None = None
    """Newest tokens that a token attends to, itself among them (sliding window); none: all before it."""
    full_attention_every: Layers | None = None
    """Every so many blocks one attends to everything, the last of each group; none: every block has the window."""
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm"
    """Normalisation before attention, feed-forward and head."""
    norm_eps: Positive = 1e-5
    """Added to the variance."""
    feed_forward: Literal["gelu", "gelu_tanh", "swiglu", "relu2"] = "gelu"
    """`gelu_tanh` is what GPT-2's published weights need, slower on a CPU; `swiglu` Llama's and Qwen's; `relu2` the squared rectifier."""
    n_expert: ExpertCount = 0
    """Feed-forward layers of each block among which a router chooses for each token (mixture of experts); 0: one for all tokens."""
    n_expert_used: Used = 2
    """Experts that work on each token, k of the n_expert; their results are added by their share of the router's probability."""
    expert_balance: NonNegative = 0.01
    """Weight of the loss that spreads the tokens of each sequence over the experts; training's and evaluation's loss report without it."""
    expert_z_loss: NonNegative = 0.001
    """Weight of the squared log-partition of the router, which keeps its logits small; reported as little as expert_balance."""
    qk_norm: bool = False
    """RMS-normalise queries and keys of each head, with a learned gain."""
    bias: bool = True
    """Biases in linear layers and in LayerNorm; routers and experts have none."""
    tied_head: bool = True
    """The output layer is the embedding table."""
    bigram_rows: Rows = 0
    """Most rows of a table of embeddings of (previous, current) token pairs, added to the input; hashed if V (V + 1) is more; 0 none."""
    zero_init: bool = False
    """Start the projections into the residual stream at zero, so that each block begins as the identity."""
    dropout: Probability = 0.0
    """On embeddings; on attention and what is added to the residual stream too, where the next two say nothing else."""
    attention_dropout: Probability | None = None
    """On the weights of attention; none: as dropout."""
    residual_dropout: Probability | None = None
    """On what attention and feed-forward add to the residual stream; none: as dropout."""
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
    def _windows_and_experts_fit(self) -> "Gpt":
        if self.full_attention_every is not None:
            if self.attention_window is None:
                raise ValueError(
                    f"full_attention_every = {self.full_attention_every} has no effect without attention_window, for every "
                    "block attends to everything; remove it or state a window"
                )
            if not 1 < self.full_attention_every <= self.n_layer:
                raise ValueError(
                    f"full_attention_every = {self.full_attention_every} leaves all n_layer = {self.n_layer} blocks of one kind; "
                    "use at least 2 and at most n_layer, or remove it or attention_window"
                )
        if not self.n_expert:
            stated = [name for name in ROUTING if getattr(self, name) != type(self).model_fields[name].default]
            if stated:
                raise ValueError(f"{', '.join(stated)}: no effect with n_expert = 0; remove it or state n_expert")
        elif self.n_expert_used > self.n_expert:
            raise ValueError(
                f"n_expert_used = {self.n_expert_used} of n_expert = {self.n_expert} experts cannot be chosen; "
                f"use n_expert_used <= {self.n_expert}"
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

    @property
    def attention_drop(self) -> float:
        """Share of attention's weights that are dropped, as resolved."""
        return self.dropout if self.attention_dropout is None else self.attention_dropout

    @property
    def residual_drop(self) -> float:
        """Share of what is added to the residual stream that is dropped, as resolved."""
        return self.dropout if self.residual_dropout is None else self.residual_dropout

    def window_of(self, block: int) -> int | None:
        """Newest tokens that block number `block` attends to; none: all."""
        every = self.full_attention_every
        return None if every is not None and (block + 1) % every == 0 else self.attention_window

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
