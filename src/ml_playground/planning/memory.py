"""How much memory training will take, from a job's settings alone. P parameters, N tokens of a micro-batch.

The table, which `benchmarks/memory_table.py` checks against the peaks of real runs:

| part | bytes |
|---|---|
| weights | 4 P |
| gradients | 4 P |
| optimizer | AdamW 8 P; Muon 4 for each number of a hidden matrix, 8 for the others |
| averaged weights | 4 P where `train.ema_decay` is on |
| copies of the weights in the precision of matrix products | 2 P with bfloat16 |
| activations | N times what a token leaves in each block; with recomputation one block, and each block's input |
| logits | of at most `LARGEST_LOGITS` at once |
| snapshot | what a checkpoint holds (weights, optimizer, averaged weights), copied before it is written |
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig, RuntimeSettings
from ml_playground.core.machine import has_native_bfloat16
from ml_playground.core.registry import load_object
from ml_playground.core.values import ModelCost

MASTER_BYTES = 4
"""Weights, gradients, states and means are float32."""
LARGEST_LOGITS = 1 << 26
"""Logits that the objective computes at once."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes that training takes on its device beside the program itself."""

    weights: int
    """Master weights."""
    gradients: int
    """One number for each weight."""
    optimizer: int
    """What the optimizer remembers."""
    averaged: int
    """The exponential mean of the weights."""
    copies: int
    """Weights in the precision of matrix products."""
    activations: int
    """What the forward pass leaves for the backward pass."""
    logits: int
    """Logits, their softmax and its gradient."""
    snapshot: int
    """The buffer from which checkpoints are written; on the host."""

    @property
    def device(self) -> int:
        """All that must lie in the memory of the device that computes."""
        return self.total - self.snapshot

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())


def planned_bytes(job: JobConfig, facts: Mapping[str, int]) -> MemoryPlan:
    """The memory of a training run.

    Args:
        job: What is trained. A runtime that is not decided yet counts as what a CPU would choose, without recomputation.
        facts: What the data give a model: vocab_size, sequence_tokens.
    """
    cost: ModelCost = load_object(families.COSTS[job.model.kind_name])(job.model, facts)
    rows: int = cast(Any, job.data).micro_batch_rows
    tokens = rows * cost.sequence_tokens
    half = computes_in_bfloat16(job.runtime)
    weights = MASTER_BYTES * cost.parameters
    optimizer = STATE_BYTES[job.optimizer.kind_name](cost)
    averaged = weights if job.train.ema_decay else 0
    return MemoryPlan(
        weights=weights,
        gradients=weights,
        optimizer=optimizer,
        averaged=averaged,
        copies=cost.parameters * 2 if half else 0,
        activations=tokens * bytes_per_token(cost, job.runtime),
        logits=logit_bytes(cost, tokens, half=half),
        snapshot=weights + optimizer + averaged,
    )


def bytes_per_token(cost: ModelCost, runtime: RuntimeSettings) -> int:
    """What one token leaves behind in all blocks for the backward pass."""
    size = 2 if computes_in_bfloat16(runtime) else MASTER_BYTES
    # The residual stream stays float32: two norms' inputs. Products keep their inputs; the activation keeps its own too.
    block = 2 * MASTER_BYTES * cost.width + size * (3 * cost.width + 2 * cost.qkv_width + 3 * cost.inner_width)
    if runtime.attention != "fused":
        block += size * 2 * cost.heads * cost.sequence_tokens
    if runtime.activation_checkpointing is True:
        return MASTER_BYTES * cost.width * cost.layers + block
    return block * cost.layers


def logit_bytes(cost: ModelCost, tokens: int, *, half: bool) -> int:
    """Logits of as many tokens as the objective takes at once: in the precision of products, in float32, and a gradient of each."""
    at_once = min(tokens * cost.vocab_size, LARGEST_LOGITS)
    return at_once * (12 if half else 8)


def computes_in_bfloat16(runtime: RuntimeSettings) -> bool:
    """Whether matrix products are bfloat16; where that is not decided yet, whether this machine would choose it."""
    if runtime.dtype == "auto":
        return runtime.device in {"cuda", "mps"} or has_native_bfloat16()
    return runtime.dtype == "bfloat16"


def _adamw(cost: ModelCost) -> int:
    return 2 * MASTER_BYTES * cost.parameters


def _muon(cost: ModelCost) -> int:
    return 2 * MASTER_BYTES * cost.parameters - MASTER_BYTES * cost.matrix_parameters


STATE_BYTES = {"adamw": _adamw, "muon": _muon}
"""Kind of optimizer -> bytes that it remembers."""
