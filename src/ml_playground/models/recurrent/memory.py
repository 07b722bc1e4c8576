"""What training a recurrent model takes for each token of a micro-batch (core.values.TokenMemory); needs no torch.

Counted in bytes for each number of a state, of the stream and of the feed-forward layer, and fitted to the peaks that
`benchmarks/memory_table.py` measures (docs/LOG.md).
"""

from ml_playground.core.values import ModelContext, TokenMemory
from ml_playground.models.recurrent.settings import CharRnn, MinGru
from ml_playground.models.utils.memory import MASTER_BYTES, product_bytes

# What a layer leaves for its way back, for each number of its state, and what that holds for a moment.
CELL_KEPT = {
    "rnn": {"bfloat16": 4, "float32": 8},
    "gru": {"bfloat16": 28, "float32": 28},
    "lstm": {"bfloat16": 42, "float32": 58},
}
CELL_WORKING = {"bfloat16": 0, "float32": 27}
# Logits cost more than planning counts for all kinds; a transformer's blocks hold as much later, when logits have gone.
MORE_LOGIT_BYTES = {"bfloat16": 4, "float32": 8}
MOST_LOGITS = 1 << 14
"""Of a token: the objective computes no more at once for a micro-batch of 4,096 tokens."""


def char_rnn(settings: CharRnn, context: ModelContext, dtype: str) -> TokenMemory:
    """Of a recurrent network.

    Args:
        settings: Of the model.
        context: Whether layers are recomputed, and the size of the vocabulary.
        dtype: Of matrix products.
    """
    layer = CELL_KEPT[settings.cell][dtype] * settings.n_hidden
    inputs = MASTER_BYTES * (settings.embedding_width + (settings.n_layer - 1) * settings.n_hidden)
    kept = layer if context.activation_checkpointing else layer * settings.n_layer
    working = CELL_WORKING[dtype] * settings.n_hidden if settings.cell == "lstm" else 0
    return TokenMemory(inputs + kept, working + _logits(context, dtype))


def min_gru(settings: MinGru, context: ModelContext, dtype: str) -> TokenMemory:
    """Of a minimal GRU; arguments are those of `char_rnn`."""
    size = product_bytes(dtype)
    width, state = settings.n_embd, settings.state_width
    inner = (2 if settings.feed_forward == "swiglu" else 1) * settings.inner_width
    # The inputs of two norms in float32, their results, and what the convolution reads and gives; both sigmoids of the gate, the
    # candidate's own and its result, the mask of its pieces and the states in float32, and the states as the projection reads
    # them; the activation's input and result.
    block = 2 * MASTER_BYTES * width + size * 4 * width + (5 * MASTER_BYTES + 2 + size) * state + 2 * size * inner
    working = 16 * width + 8 * state + 10 * inner + _logits(context, dtype)
    if context.activation_checkpointing:
        # A block that is computed again lies beside what its way back makes.
        return TokenMemory(MASTER_BYTES * width * settings.n_layer + 2 * block, working)
    return TokenMemory(block * settings.n_layer, working)


def _logits(context: ModelContext, dtype: str) -> int:
    return MORE_LOGIT_BYTES[dtype] * min(context.facts["vocab_size"], MOST_LOGITS)
