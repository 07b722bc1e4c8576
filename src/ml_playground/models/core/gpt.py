"""A decoder-only transformer. B rows, T tokens, C width, V vocabulary, D features of a head, t new tokens."""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.values import ModelContext
from ml_playground.models.core.gpt_decoder import GptDecoder
from ml_playground.models.layers.attention import Attention, causal_mask
from ml_playground.models.layers.bigram import BigramEmbedding, previous_of
from ml_playground.models.layers.documents import Lengths, lengths_of, within_documents
from ml_playground.models.layers.dropout import dropped
from ml_playground.models.layers.experts import ExpertFeedForward, Routed, Use
from ml_playground.models.layers.feed_forward import feed_forward_of
from ml_playground.models.layers.norm import LayerNorm, RmsNorm
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.models.layers.precision import product_dtype
from ml_playground.models.layers.rotary import Rotary, Rotation
from ml_playground.models.protocols import Layout, States
from ml_playground.models.settings import Gpt
from ml_playground.models.utils.init import initialise
from ml_playground.models.weights.hugging_face import check_fits, load_hugging_face

RESIDUAL_PROJECTIONS = {"attention.projection", "feed_forward.down", "experts.down"}
"""The matrices that write into the residual stream."""

MOST_ANGLES = 1 << 28
"""Of the rotary tables, which no checkpoint holds: a million positions of heads 256 wide, 2 GiB together."""


def norm_of(settings: Gpt) -> nn.Module:
    """A normalisation over the width."""
    if settings.norm == "rms_norm":
        return RmsNorm(settings.n_embd, eps=settings.norm_eps)
    return LayerNorm(settings.n_embd, eps=settings.norm_eps, bias=settings.bias)


class Block(nn.Module):
    """Attention, then feed-forward, each added to the residual stream."""

    def __init__(self, settings: Gpt, *, fused: bool, window: int | None) -> None:
        super().__init__()
        self.attention_norm = norm_of(settings)
        self.attention = Attention(settings, fused=fused, window=window)
        self.feed_forward_norm = norm_of(settings)
        routed = settings.n_expert > 0
        self.feed_forward = ExpertFeedForward(settings) if routed else feed_forward_of(settings, bias=settings.bias)
        self.dropout = settings.residual_drop

    def forward(
        self, x: Tensor, rotation: Rotation | None, mask: Tensor | None, lengths: Lengths | None
    ) -> Tensor | Routed:
        """(B, T, C) -> (B, T, C); with experts how they were used, too."""
        x = x + self._dropped(self.attention(self.attention_norm(x), rotation, mask, lengths))
        y = cast(Tensor | Routed, self.feed_forward(self.feed_forward_norm(x)))
        if isinstance(y, Routed):
            return Routed(x + self._dropped(y.result), y.use)
        return x + self._dropped(y)

    def _dropped(self, x: Tensor) -> Tensor:
        return dropped(x, self.dropout) if self.training and self.dropout else x


class GptModel(nn.Module):
    """Token ids to logits of the next token; `settings` states its sizes, so that it can be exported."""

    def __init__(self, settings: Gpt, *, vocab_size: int, block_size: int, fused: bool, recompute: bool) -> None:
        super().__init__()
        self.settings = settings.model_copy(update={"vocab_size": vocab_size, "block_size": block_size})
        self.vocab_size, self.block_size = vocab_size, block_size
        self.fused, self.recompute = fused, recompute
        self._drops = max(settings.dropout, settings.attention_drop, settings.residual_drop) > 0
        self.token_embedding = nn.Embedding(vocab_size, settings.n_embd)
        pairs = settings.bigram_table_rows(vocab_size)
        self.bigram_embedding = BigramEmbedding(pairs, settings.n_embd, vocab_size=vocab_size) if pairs else None
        learned = settings.position == "learned"
        self.position_embedding = nn.Embedding(block_size, settings.n_embd) if learned else None
        self.rotary = None if learned else Rotary(settings.head_width, length=block_size, theta=settings.rope_theta)
        windows = [settings.window_of(block) for block in range(settings.n_layer)]
        self._windows = set(windows)
        self.blocks = nn.ModuleList(Block(settings, fused=fused, window=window) for window in windows)
        self.final_norm = norm_of(settings)
        self.output = None if settings.tied_head else nn.Linear(settings.n_embd, vocab_size, bias=False)
        initialise(self, n_layer=settings.n_layer, residual=RESIDUAL_PROJECTIONS, zero_residual=settings.zero_init)

    @property
    def max_context(self) -> int:
        """Longest context in tokens."""
        return self.block_size

    @property
    def longest_alone(self) -> int:
        """Tokens of a document that costs what they cost, whatever else is in its row; experts are balanced over rows."""
        return 0 if self.settings.n_expert else self.block_size

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of ids (B, T)."""
        return self.head(self.hidden(ids))

    def hidden(self, ids: Tensor, layout: Layout | None = None) -> Tensor:
        """Final normalised states (B, T, C).

        Raises:
            DataError: More tokens than block_size.
        """
        return self.states(ids, layout).hidden

    def states(self, ids: Tensor, layout: Layout | None = None) -> States:
        """The same, with what experts add to the loss and how they were used, where there are any.

        Args:
            ids: (B, T).
            layout: Where rows hold several documents: each is read as if it were alone.

        Raises:
            DataError: More tokens than block_size.
        """
        lengths = None if layout is None else lengths_of(layout.documents)
        longest = ids.shape[1] if lengths is None else max(lengths)
        if longest > self.block_size:
            raise DataError(
                f"The model reads at most block_size = {self.block_size} tokens, got rows of {longest}; "
                "shorten them, or train with a larger model.block_size."
            )
        dtype = product_dtype(self.token_embedding.weight)
        rotation = None if self.rotary is None else self.rotary.of(longest, layout and layout.positions, dtype)
        masked = None if lengths is not None or layout is None else layout.documents
        masks = {window: self._mask(longest, window, dtype, ids.device, masked) for window in self._windows}
        draws = self.training and self._drops
        recompute = self.recompute and torch.is_grad_enabled()
        x = self._embedded(ids, layout and layout.positions)
        uses: list[Use] = []
        for block in self.blocks:
            seen = rotation, masks[cast(Block, block).attention.window], lengths
            given = cast(
                Tensor | Routed,
                checkpoint(block, x, *seen, use_reentrant=False, preserve_rng_state=draws)
                if recompute
                else block(x, *seen),
            )
            if isinstance(given, Routed):
                uses.append(given.use)
                x = given.result
            else:
                x = given
        hidden = self.final_norm(x)
        return self._with_use(hidden, uses) if uses else States(hidden)

    def _embedded(self, ids: Tensor, positions: Tensor | None) -> Tensor:
        """(B, T), and where they stand in their documents if not in their rows -> what goes into the first block, (B, T, C)."""
        x = self.token_embedding(ids)
        if self.bigram_embedding is not None:
            x = x + self.bigram_embedding(ids, previous_of(ids, positions))
        if self.position_embedding is not None:
            table = self.position_embedding.weight
            x = x + (table[: ids.shape[1]] if positions is None else functional.embedding(positions, table))
        return dropped(x, self.settings.dropout) if self.training and self.settings.dropout else x

    def _mask(
        self, length: int, window: int | None, dtype: torch.dtype, device: torch.device, documents: Tensor | None
    ) -> Tensor | None:
        """What is added to the scores of blocks with this window; none where the fused kernel needs none."""
        reaches = window is not None and window < length
        if self.fused and not reaches and documents is None:
            return None
        mask = causal_mask(length, dtype=dtype, device=device, window=window if reaches else None)
        return mask if documents is None else within_documents(mask, documents)

    def _with_use(self, hidden: Tensor, uses: list[Use]) -> States:
        """The states, with the means over blocks of how experts were used."""
        balance, z, busiest = (torch.stack(parts).mean(0) for parts in zip(*uses, strict=True))
        added = self.settings.expert_balance * balance + self.settings.expert_z_loss * z
        return States(hidden, added, {"expert_balance": balance, "busiest_expert": busiest})

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of states (..., C)."""
        return functional.linear(hidden, self.token_embedding.weight if self.output is None else self.output.weight)

    def decoder(self, precision: Precision) -> GptDecoder:
        """A snapshot of this model for drawing tokens, its weights at a precision.

        Raises:
            ConfigError: The precision does not work where the model is.
        """
        return GptDecoder(self, precision)

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The matrices inside the blocks: those that map hidden states to hidden states, as Muon asks. A router maps to choices."""
        named = self.blocks.named_parameters()
        return [parameter for name, parameter in named if parameter.ndim > 1 and not name.endswith("router.weight")]

    def crop_block_size(self, block_size: int) -> None:
        """Read at most `block_size` tokens from here on; positions beyond are forgotten.

        Raises:
            ConfigError: That is longer than what the model has.
        """
        if block_size > self.block_size:
            raise ConfigError(
                f"model.block_size = {block_size} is longer than the {self.block_size} positions that the model has; "
                "it can be cropped, not stretched."
            )
        self.block_size = block_size
        self.settings = self.settings.model_copy(update={"block_size": block_size})
        if self.position_embedding is not None:
            weight = self.position_embedding.weight
            self.position_embedding = nn.Embedding.from_pretrained(weight.detach()[:block_size].clone(), freeze=False)


def build(settings: Gpt, context: ModelContext) -> GptModel:
    """The model for the data at hand, with random weights or those of `settings.weights`.

    Raises:
        ConfigError: Settings contradict the data or the weights.
        CheckpointError: The folder of weights is incomplete.
    """
    block_size = _block_size(settings, context)
    if settings.attention_window is not None and settings.attention_window >= block_size:
        raise ConfigError(
            f"model.attention_window = {settings.attention_window} has no effect on {block_size} tokens of context; use less than "
            f"{block_size}, remove it, or lengthen data.sequence_tokens."
        )
    model = GptModel(
        settings,
        vocab_size=_vocab_size(settings, context),
        block_size=block_size,
        fused=context.attention == "fused",
        recompute=context.activation_checkpointing,
    )
    if settings.weights is not None and context.load_pretrained:
        load_into(model, settings.weights)
    return model


def load_into(model: GptModel, folder: Path) -> None:
    """Fill `model` with the weights of a Hugging Face folder, cropped to its block_size.

    Raises:
        ConfigError: The folder holds another architecture; all differences are listed.
        CheckpointError: The folder is incomplete.
    """
    pretrained = load_hugging_face(folder)
    check_fits(model.settings, pretrained.settings, folder)
    tensors = dict(pretrained.tensors)
    if model.position_embedding is not None:
        tensors["position_embedding.weight"] = tensors["position_embedding.weight"][: model.block_size]
    model.load_state_dict(tensors)


def _vocab_size(settings: Gpt, context: ModelContext) -> int:
    known = context.facts["vocab_size"]
    if settings.vocab_size not in {None, known}:
        raise ConfigError(
            f"model.vocab_size = {settings.vocab_size}, but the data were prepared with a vocabulary of {known}; "
            "remove model.vocab_size, or prepare with another tokenizer."
        )
    return known


def _block_size(settings: Gpt, context: ModelContext) -> int:
    needed = context.facts["sequence_tokens"]
    positions = needed if settings.block_size is None else settings.block_size
    if positions < needed:
        raise ConfigError(
            f"model.block_size = {settings.block_size} is shorter than data.sequence_tokens = {needed}; "
            f"use block_size >= {needed}, or shorter sequences."
        )
    angles = positions * settings.head_width
    if settings.position == "rotary" and angles > MOST_ANGLES:
        raise ConfigError(
            f"Rotary positions of {positions} tokens and heads {settings.head_width} wide need two tables of {angles} numbers, more "
            f"than {MOST_ANGLES}; use shorter sequences (data.sequence_tokens, model.block_size) or narrower heads."
        )
    return positions
