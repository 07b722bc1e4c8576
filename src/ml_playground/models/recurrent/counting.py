"""Parameters, arithmetic and memory of the recurrent models, from their settings alone; needs no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ml_playground.core.values import ModelCost
from ml_playground.models.recurrent.settings import GATES, CharRnn, MinGru

UNCOMPILED = "torch does not compile the layers of a char_rnn, which are one call each already"
"""torch._dynamo breaks the graph at nn.RNN, nn.GRU and nn.LSTM on purpose (pytorch/pytorch issue 167275)."""


def char_rnn_cost(settings: CharRnn, facts: Mapping[str, int]) -> ModelCost:
    """Of a recurrent network; each layer has two biases for each product, as torch's have."""
    vocab_size, hidden = facts["vocab_size"], settings.n_hidden
    matrices = sum(_matrices(settings))
    tables = vocab_size * (settings.embedding_width + (0 if settings.tied_head else hidden) + 1)
    biases = settings.n_layer * 2 * GATES[settings.cell] * hidden
    found = _cost(facts, parameters=tables + matrices + biases, matrices=matrices, head=vocab_size * hidden)
    return replace(found, uncompiled=UNCOMPILED)


def _matrices(settings: CharRnn) -> Iterator[int]:
    """Weights of each layer's two matrices."""
    for layer in range(settings.n_layer):
        below = settings.n_hidden if layer else settings.embedding_width
        yield GATES[settings.cell] * settings.n_hidden * (below + settings.n_hidden)


def min_gru_cost(settings: MinGru, facts: Mapping[str, int]) -> ModelCost:
    """Of a minimal GRU."""
    vocab_size, width, state = facts["vocab_size"], settings.n_embd, settings.state_width
    feed_forward = (3 if settings.feed_forward == "swiglu" else 2) * settings.inner_width
    matrices = settings.n_layer * width * (3 * state + feed_forward)
    # Two norms, the taps of the convolution, and the bias of the gate; one norm at the end.
    vectors = settings.n_layer * ((2 + settings.conv_tokens) * width + state) + width
    tables = vocab_size * width * (1 if settings.tied_head else 2)
    inner, ups = settings.inner_width, 2 if settings.feed_forward == "swiglu" else 1
    block = ((state, width), (state, width), (width, state), *ups * ((inner, width),), (width, inner))
    found = _cost(facts, parameters=tables + matrices + vectors, matrices=matrices, head=vocab_size * width)
    return replace(found, matrix_sides=settings.n_layer * block)


def _cost(facts: Mapping[str, int], *, parameters: int, matrices: int, head: int) -> ModelCost:
    """6 operations for each weight of a matrix, 2 forward and 4 backward, the output layer among them; gates are not counted."""
    return ModelCost(
        parameters=parameters,
        matrix_parameters=matrices,
        flops_per_token=6 * (matrices + head),
        vocab_size=facts["vocab_size"],
        sequence_tokens=facts["sequence_tokens"],
    )
