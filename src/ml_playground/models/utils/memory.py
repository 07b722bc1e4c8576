"""What training takes for each token of a micro-batch, by kind of model (core.values.TokenMemory); needs no torch.

What layers leave is counted; what is held for a moment is fitted to the peaks that `benchmarks/memory_table.py` measures (docs/LOG.md).
"""

from ml_playground.core.values import ModelContext, TokenMemory
from ml_playground.models.settings import Gpt
from ml_playground.models.utils.counting import qkv_width, up_matrices, working_experts

QUERIES_AT_ONCE = 256
"""As in models.layers.attention, which needs torch."""
MASTER_BYTES = 4
"""The residual stream is float32 whatever products are."""
# For each number of the residual stream, of the feed-forward layer and of attention's weights: what the way back through a block
# holds for a moment. Fitted to runs with and without recomputation, whose peaks differ in the blocks that are kept; in float32
# what is recomputed lies beside what it is for.
GPT_WORKING = {"bfloat16": (16, 21, 4), "float32": (28, 32, 8), "float32, recomputed": (48, 54, 14)}


def gpt(settings: Gpt, context: ModelContext, dtype: str) -> TokenMemory:
    """Of a transformer.

    Args:
        settings: Of the model.
        context: The length of a sequence, how attention is computed, and whether blocks are recomputed.
        dtype: Of matrix products.
    """
    size = product_bytes(dtype)
    width, experts = settings.n_embd, working_experts(settings)
    inner = experts * up_matrices(settings) * settings.inner_width
    normalised = (settings.n_head + settings.key_heads) * settings.head_width if settings.qk_norm else 0
    # A fused kernel keeps no weights of attention.
    all_weights = [0 if context.attention == "fused" else settings.n_head * n for n in _keys(settings, context)]
    weights = max(all_weights)
    # The residual stream is float32: the inputs of two norms. Products keep their inputs, which are the norms' results, attention's
    # result before and after its heads are joined, queries, keys and values, the activation's input and result. What normalises
    # queries and keys keeps its results beside what the products keep. To experts a token goes in copies, whose results come back.
    routed = 3 * experts * width if settings.n_expert else 0
    kept = 4 * width + qkv_width(settings) + normalised + 2 * inner + routed
    blocks = [2 * MASTER_BYTES * width + size * (kept + of_block) for of_block in all_weights]
    recomputes = context.activation_checkpointing
    again = recomputes and dtype == "float32"
    of_width, of_inner, of_weights = GPT_WORKING[f"{dtype}, recomputed" if again else dtype]
    return TokenMemory(
        activations=MASTER_BYTES * width * settings.n_layer + max(blocks) if recomputes else sum(blocks),
        working=of_width * width + of_inner * inner + of_weights * weights,
    )


def _keys(settings: Gpt, context: ModelContext) -> list[int]:
    """Keys for which each block keeps a weight, for one token: with a window those that the queries computed with it may see.

    Queries go together in parts where attention is written out, but with dropout all at once.
    """
    length = context.facts["sequence_tokens"]
    windows = [settings.window_of(block) or length for block in range(settings.n_layer)]
    beside = length if settings.attention_drop else QUERIES_AT_ONCE
    return [min(length, window + beside) for window in windows]


def product_bytes(dtype: str) -> int:
    """Of a number in the precision of matrix products."""
    return 2 if dtype == "bfloat16" else MASTER_BYTES
