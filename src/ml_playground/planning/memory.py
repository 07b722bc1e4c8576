"""How much memory training will take, from a job's settings alone. P parameters, N tokens of a micro-batch.

| part | bytes |
|---|---|
| program | what the first steps load and make beside the model |
| weights | 4 P |
| gradients | 4 P |
| optimizer | 8 P, or what `OPTIMIZERS` says; of Muon's for a hidden matrix half is the update, which no checkpoint holds |
| averaged | 4 P where `train.ema_decay` is on, or the optimizer keeps a mean |
| copies | of the weights in bfloat16, where matrix products are: 2 P; their gradients come when activations have gone |
| activations | N times what a token leaves in the layers, by kind of model |
| working | the most that is held for a moment: N times what the way back holds, the copies' gradients, Muon's iteration, or a preview |
| logits | of at most `LARGEST_LOGITS` at once |
| snapshot | what a checkpoint holds (weights, optimizer, averaged weights), copied before it is written; less where it lies among freed |
| paged | what an optimizer remembers in the host's memory |

What a token takes is the model's to say (`memory` in its row of configuration/families.py); where a row does not say, nothing is planned.
`benchmarks/memory_table.py` holds the sum against the peaks of real runs: a tenth at most lies between them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig, RuntimeSettings
from ml_playground.core.machine import has_glibc, has_native_bfloat16
from ml_playground.core.registry import load_object
from ml_playground.core.values import ModelContext, ModelCost, TokenMemory

MASTER_BYTES = 4
"""Weights, gradients, states and means are float32."""
LARGEST_LOGITS = 1 << 26
"""Logits that the objective computes at once."""

LEAST_TRIED_STEPS = 20
"""Shorter runs are their own trial: what goes wrong at their end goes wrong within seconds."""

# Threads, tables of kernels and hooks; recomputation imports torch._dynamo. Resident megabytes of the smallest runs.
PROGRAM_BYTES, RECOMPUTING_BYTES = 32_000_000, 77_000_000
# Logits in the precision of products and in float32, their logarithmic softmax, and the gradients of both logits.
LOGIT_BYTES = {"bfloat16": 16, "float32": 12}
# The stack of equal shapes, its copy in bfloat16 and the iteration's products, for each number that goes through it at once.
ITERATION_BYTES = 27
MOST_STACKED, PACKED_BLOCK, CACHED, MOST_UNPACKED, MOST_MOVED, MOST_VISITING = (
    1 << 24,
    64,
    1 << 18,
    1 << 24,
    1 << 26,
    1 << 24,
)
"""As in training.optim (muon, adamw8bit, schedule_free, paged_adamw), which needs torch."""
# Both moments, and what packs one of them: shares, places, two neighbours, what lies between, codes.
UNPACKED_BYTES = 9 * MASTER_BYTES


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes that training takes beside what its process held after its imports."""

    program: int
    """What the first steps load and make beside the model."""
    weights: int
    """Master weights."""
    gradients: int
    """One number for each weight."""
    optimizer: int
    """What the optimizer remembers, and keeps beside."""
    averaged: int
    """The exponential mean of the weights."""
    copies: int
    """Weights in the precision of matrix products."""
    activations: int
    """What the forward pass leaves for the backward pass."""
    working: int
    """What is held for a moment: on the way back, or in the update."""
    logits: int
    """Logits, their softmax and its gradient."""
    snapshot: int
    """The copy from which checkpoints are written, as far as it needs memory of its own; on the host."""
    paged: int = 0
    """What the optimizer remembers on the host, beside a device that has a memory of its own."""

    @property
    def device(self) -> int:
        """All that must lie in the memory of the device that computes."""
        lasting = self.weights + self.gradients + self.optimizer + self.averaged + self.copies
        return self.program + lasting + self.activations + self.working + self.logits

    @property
    def total(self) -> int:
        """All of it."""
        return self.device + self.snapshot + self.paged

    def needed_by(self, device: str) -> int:
        """What must fit into a kind of device; elsewhere than on CUDA it shares the host's memory, where the snapshot lies."""
        return self.device if device == "cuda" else self.total


def planned_bytes(job: JobConfig, facts: Mapping[str, int]) -> MemoryPlan | None:
    """The memory of a training run; None where nobody has said what a model of this kind takes.

    Args:
        job: What is trained. A runtime that is not decided yet counts as what a CPU would choose, without recomputation.
        facts: What the data give a model: vocab_size, sequence_tokens.
    """
    memory = families.MODELS[job.model.kind_name].memory
    cost = families.cost_of(job.model, facts)
    if not memory or cost is None or job.optimizer.kind_name not in OPTIMIZERS:
        return None
    moved = OPTIMIZERS[job.optimizer.kind_name](job.optimizer, cost, job.runtime.device)
    if moved is None:
        return None
    rows: int = cast(Any, job.data).micro_batch_rows * (2 if job.data.pairs else 1)
    tokens = rows * cost.sequence_tokens
    dtype = dtype_of(job.runtime)
    recomputes = job.runtime.activation_checkpointing is True
    attention = "fused" if job.runtime.attention == "fused" else "math"
    context = ModelContext(facts, attention=attention, activation_checkpointing=recomputes)
    token: TokenMemory = load_object(memory)(job.model, context, dtype)
    weights = MASTER_BYTES * cost.parameters
    averaged = weights if job.train.ema_decay or job.optimizer.averages_weights else 0
    activations = tokens * token.activations
    logits = min(tokens * cost.vocab_size, LARGEST_LOGITS) * LOGIT_BYTES[dtype]
    copies = weights // 2 if dtype == "bfloat16" else 0
    previews = any(hook.kind_name == "samples" for hook in job.hooks.values())
    # A preview packs the weights anew; averaged ones stand in for the others, which are kept meanwhile.
    drawing = averaged + (weights if previews else 0)
    moments = (activations + logits + tokens * token.working, copies or weights, moved.update, drawing)
    snapshot = weights + moved.state + moved.paged + averaged
    if _copies_among_freed(job.runtime):
        kept = weights + averaged if _is_tried(job) else 0
        snapshot = max(kept, snapshot - max(moments))
    return MemoryPlan(
        program=PROGRAM_BYTES + (RECOMPUTING_BYTES if recomputes else 0),
        weights=weights,
        gradients=weights,
        optimizer=moved.state + moved.beside,
        averaged=averaged,
        copies=copies,
        activations=activations,
        working=max(moments) - activations - logits,
        logits=logits,
        snapshot=snapshot,
        paged=moved.paged,
    )


def _copies_among_freed(runtime: RuntimeSettings) -> bool:
    """Whether a snapshot lies where the last step has had its activations (training.checkpointing.snapshot_buffer).

    Then only what does not fit there counts, or the weights that the flight check keeps beside a step.
    """
    return runtime.allocator != "system" and has_glibc() and runtime.device in {"auto", "cpu"}


def _is_tried(job: JobConfig) -> bool:
    """Whether the flight check makes steps before the run, from which it goes back."""
    steps = job.train.max_steps
    return job.runtime.flight_check and (steps is None or steps >= LEAST_TRIED_STEPS)


def dtype_of(runtime: RuntimeSettings) -> str:
    """The precision of matrix products; where that is not decided yet, what this machine would choose."""
    if runtime.dtype != "auto":
        return runtime.dtype
    return "bfloat16" if runtime.device in {"cuda", "mps"} or has_native_bfloat16() else "float32"


class OptimizerMemory(NamedTuple):
    """Bytes that an optimizer takes."""

    state: int
    """What it remembers on the device, in a checkpoint too."""
    beside: int = 0
    """What it keeps beside that."""
    update: int = 0
    """What an update holds for a moment."""
    paged: int = 0
    """What it remembers on the host, in a checkpoint too."""


def _adamw(_settings: Any, cost: ModelCost, _device: str) -> OptimizerMemory:
    return OptimizerMemory(2 * MASTER_BYTES * cost.parameters)


def _muon(_settings: Any, cost: ModelCost, _device: str) -> OptimizerMemory:
    matrices = MASTER_BYTES * cost.matrix_parameters
    # Most matrices of one shape are those of the feed-forward layers, two thirds of a usual block.
    stacked = min(2 * cost.matrix_parameters // 3, MOST_STACKED)
    return OptimizerMemory(2 * MASTER_BYTES * cost.parameters - matrices, matrices, ITERATION_BYTES * stacked)


def _adamw8bit(_settings: Any, cost: ModelCost, device: str) -> OptimizerMemory:
    # Two codes, and two scales for each block.
    state = 2 * cost.parameters + 2 * MASTER_BYTES * cost.parameters // PACKED_BLOCK
    return OptimizerMemory(state, update=UNPACKED_BYTES * min(cost.parameters, _at_once(device)))


def _paged_adamw(_settings: Any, cost: ModelCost, _device: str) -> OptimizerMemory:
    rooms = 2 * MASTER_BYTES * min(cost.parameters, MOST_VISITING)
    return OptimizerMemory(0, beside=rooms, paged=2 * MASTER_BYTES * cost.parameters)


def _galore(settings: Any, cost: ModelCost, _device: str) -> OptimizerMemory | None:
    if not cost.matrix_sides:
        return None
    rank: int = settings.rank
    projected = [(max(sides), min(sides)) for sides in cost.matrix_sides if min(sides) > rank]
    others = cost.parameters - sum(longer * shorter for longer, shorter in projected)
    small = sum(rank * (2 * longer + shorter) for longer, shorter in projected)
    # The Gram matrix, its eigenvectors and what the routine works in; or the step in both spaces.
    largest = max((3 * shorter * shorter + 2 * longer * shorter for longer, shorter in projected), default=0)
    return OptimizerMemory(MASTER_BYTES * (2 * others + small), update=MASTER_BYTES * largest)


def _schedule_free(_settings: Any, cost: ModelCost, device: str) -> OptimizerMemory:
    moved = min(cost.parameters, MOST_MOVED if device == "cuda" else _at_once(device))
    return OptimizerMemory(MASTER_BYTES * cost.parameters, update=4 * MASTER_BYTES * moved)


def _at_once(device: str) -> int:
    return MOST_UNPACKED if device == "cuda" else CACHED


OPTIMIZERS: Mapping[str, Callable[[Any, ModelCost, str], OptimizerMemory | None]] = {
    "adamw": _adamw,
    "muon": _muon,
    "adamw8bit": _adamw8bit,
    "paged_adamw": _paged_adamw,
    "galore": _galore,
    "schedule_free": _schedule_free,
}
"""Kind of optimizer -> what it takes by its settings, the model's cost and the kind of device; none: nobody can say for this model."""
