"""What training a recurrent model takes for each token of a micro-batch (core.values.TokenMemory); needs no torch.

Counted in bytes for each number of a state, of the stream and of the feed-forward layer, and fitted to the peaks that
`benchmarks/memory_table.py` measures (docs/LOG.md).
"""

from ml_playground.core.values import ModelContext, TokenMemory
from ml_playground.models.recurrent.settings import CharRnn, MinGru
from ml_playground.models.utils.memory import MASTER_BYTES, product_bytes

# What a layer leaves, and what its way back holds for a moment, for each number of its state.
CELL_KEPT = {
    "rnn": {"bfloat16": 20, "float32": 16},
    "gru": {"bfloat16": 50, "float32": 40},
    "lstm": {"bfloat16": 40, "float32": 44},
}
CELL_WORKING = {
    "rnn": {"bfloat16": 20, "float32": 16},
    "gru": {"bfloat16": 50, "float32": 40},
    "lstm": {"bfloat16": 40, "float32": 44},
}


def char_rnn(settings: CharRnn, context: ModelContext, dtype: str) -> TokenMemory:
    """Of a recurrent network.

    Args:
        settings: Of the model.
        context: Whether layers are recomputed.
        dtype: Of matrix products.
    """
    layer = CELL_KEPT[settings.cell][dtype] * settings.n_hidden
    inputs = MASTER_BYTES * (settings.embedding_width + (settings.n_layer - 1) * settings.n_hidden)
    kept = layer if context.activation_checkpointing else layer * settings.n_layer
    return TokenMemory(inputs + kept, CELL_WORKING[settings.cell][dtype] * settings.n_hidden)


def min_gru(settings: MinGru, context: ModelContext, dtype: str) -> TokenMemory:
    """Of a minimal GRU; arguments are those of `char_rnn`."""
    size = product_bytes(dtype)
    width, state = settings.n_embd, settings.state_width
    inner = (2 if settings.feed_forward == "swiglu" else 1) * settings.inner_width
    # The inputs of two norms in float32 and their results; each tap's product; gate, candidate and what both come to, then the
    # states, in float32; the activation's input and result.
    block = 2 * MASTER_BYTES * width + size * (2 + settings.conv_tokens) * width
    block += (2 * size + 8 * MASTER_BYTES) * state + 2 * size * inner
    working = 16 * width + 24 * state + 20 * inner
    if context.activation_checkpointing:
        return TokenMemory(MASTER_BYTES * width * settings.n_layer + block, working)
    return TokenMemory(block * settings.n_layer, working)
