"""Parameters and arithmetic of a model, from its settings alone; needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from ml_playground.core.values import ModelCost
from ml_playground.models.settings import Gpt


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Trainable numbers; a tied table counts once, as an embedding."""

    embedding: int
    """Tables of tokens, token pairs and positions, and an untied output layer, which is one too."""
    non_embedding: int
    """Blocks and the last norm."""

    @property
    def total(self) -> int:
        """Both."""
        return self.embedding + self.non_embedding


def cost(settings: Gpt, facts: Mapping[str, int]) -> ModelCost:
    """All that planning must know of a model; `facts` are those that the data give a model: vocab_size, sequence_tokens."""
    vocab_size, sequence_tokens = facts["vocab_size"], facts["sequence_tokens"]
    block_size = settings.block_size or sequence_tokens
    parameters = parameter_counts(settings, vocab_size=vocab_size, block_size=block_size).total
    idle = settings.n_layer * (max(1, settings.n_expert) - working_experts(settings)) * _feed_forward_matrices(settings)
    return ModelCost(
        parameters=parameters,
        active_parameters=parameters - idle if idle else None,
        matrix_parameters=settings.n_layer * _block_matrices(settings, max(1, settings.n_expert)),
        flops_per_token=flops_per_token(settings, vocab_size=vocab_size, sequence_tokens=sequence_tokens),
        vocab_size=vocab_size,
        sequence_tokens=sequence_tokens,
        matrix_sides=settings.n_layer * _matrix_sides(settings),
    )


def parameter_counts(settings: Gpt, *, vocab_size: int, block_size: int) -> ParameterCounts:
    """How many parameters a model of these settings has."""
    width = settings.n_embd
    tables = vocab_size * (1 if settings.tied_head else 2) + settings.bigram_table_rows(vocab_size)
    positions = block_size if settings.position == "learned" else 0
    matrices = _block_matrices(settings, max(1, settings.n_expert)) + _router(settings)
    blocks = settings.n_layer * (matrices + _block_vectors(settings))
    return ParameterCounts(embedding=(tables + positions) * width, non_embedding=blocks + _norm(settings))


def flops_per_token(settings: Gpt, *, vocab_size: int, sequence_tokens: int) -> int:
    """Floating-point operations of one token's forward and backward pass.

    6 for each weight of a matrix (2 forward, 4 backward), the output layer among them and the embedding lookup not; of experts
    only those that a token uses. And 12 H D T for the two products of a block's attention, counted without regard to the causal
    half, as is usual; with a window, that many tokens.

    Source: Chowdhery et al. 2022 (PaLM), arXiv 2204.02311, appendix B.
    """
    block = _block_matrices(settings, working_experts(settings)) + _router(settings)
    windows = [settings.window_of(number) or sequence_tokens for number in range(settings.n_layer)]
    attention = sum(min(window, sequence_tokens) for window in windows) * settings.n_head * settings.head_width
    return 6 * (settings.n_layer * block + vocab_size * settings.n_embd) + 12 * attention


def utilisation(tokens_per_s: float, flops_per_token: float, peak_flops_per_s: float) -> float:
    """Share of a machine's arithmetic that training uses.

    Args:
        tokens_per_s: Training speed.
        flops_per_token: Of the function of that name.
        peak_flops_per_s: Measured rate of a large matrix product in the type that is trained in.
    """
    return tokens_per_s * flops_per_token / peak_flops_per_s


def qkv_width(settings: Gpt) -> int:
    """Queries, keys and values of a block for each token."""
    return (settings.n_head + 2 * settings.key_heads) * settings.head_width


def up_matrices(settings: Gpt) -> int:
    """Matrices from the residual stream to the inner width: SwiGLU has a gate beside."""
    return 2 if settings.feed_forward == "swiglu" else 1


def working_experts(settings: Gpt) -> int:
    """Feed-forward layers that work on a token in each block."""
    return settings.n_expert_used if settings.n_expert else 1


def _block_matrices(settings: Gpt, experts: int) -> int:
    """Weights of the matrices of one block with so many experts, the router left out."""
    attention = (qkv_width(settings) + settings.n_head * settings.head_width) * settings.n_embd
    return attention + experts * _feed_forward_matrices(settings)


def _feed_forward_matrices(settings: Gpt) -> int:
    """Weights of one feed-forward layer."""
    return (up_matrices(settings) + 1) * settings.n_embd * settings.inner_width


def _matrix_sides(settings: Gpt) -> tuple[tuple[int, int], ...]:
    """Rows and columns of the matrices of one block; together they are `_block_matrices` of all experts."""
    width, inner = settings.n_embd, settings.inner_width
    attention = ((qkv_width(settings), width), (width, settings.n_head * settings.head_width))
    feed_forward = (*up_matrices(settings) * ((inner, width),), (width, inner))
    return attention + max(1, settings.n_expert) * feed_forward


def _router(settings: Gpt) -> int:
    """Weights of a block's router."""
    return settings.n_expert * settings.n_embd


def _block_vectors(settings: Gpt) -> int:
    """Gains and biases of one block."""
    gains = 2 * _norm(settings) + (2 * settings.head_width if settings.qk_norm else 0)
    if not settings.bias:
        return gains
    attention = qkv_width(settings) + settings.n_embd
    feed_forward = settings.n_embd + up_matrices(settings) * settings.inner_width
    return gains + attention + (0 if settings.n_expert else feed_forward)


def _norm(settings: Gpt) -> int:
    """One norm over the width."""
    return settings.n_embd * (2 if settings.norm == "layer_norm" and settings.bias else 1)
