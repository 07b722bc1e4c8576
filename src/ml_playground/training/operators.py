"""Names of operations, as torch's profiler records them, sorted into parts of a step and kinds of work. No torch here."""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

DATA_MARK, STEP_MARK, OPTIMIZER_MARK, READING_MARK = "mlp.data", "mlp.step", "mlp.optimizer", "mlp.reading"
"""Regions that the measurement marks itself."""
MODULE_MARK = "mlp.module "
"""Begins the name of a region that stands for the call of a module; the name of its class follows."""

BACKWARD = "autograd::engine::evaluate_function"

PYTHON = "Python, and waiting"
"""What of a step no operation accounts for."""

# What small operations in a module's call are for, by the name of its class; its matrix products stay matrix products.
KINDS_OF_MODULES: Sequence[tuple[str, str]] = (
    ("normalisation", r"Norm"),
    ("attention", r"Attention"),
    ("activation", r"FeedForward|Mlp|MLP"),
    ("embedding", r"Embedding"),
)
SMALL = {"copies", "element by element"}

# The first that matches counts. The products of attention are the only ones with a batch dimension.
KINDS_OF_WORK: Sequence[tuple[str, str]] = (
    ("compiled kernels", r"CompiledFxGraph|Torch-Compiled|triton_|CompiledFunction"),
    ("loss", r"log_softmax|nll_loss|cross_entropy|logsumexp"),
    ("attention", r"bmm|_softmax|scaled_dot_product|flash|efficient_attention|cudnn_attention|triu|tril"),
    ("matrix products", r"::(mm|addmm|_addmm_activation|linear|matmul|dot|mv|addmv|_scaled_mm)\b|mkldnn|onednn"),
    ("normalisation", r"layer_norm|rms_norm|group_norm|rsqrt|batch_norm"),
    ("activation", r"gelu|silu|relu|sigmoid|tanh|threshold"),
    ("embedding", r"embedding|index_select|index_put|index_add|gather|scatter|::index\b"),
    ("copies", r"copy|clone|::cat\b|stack|contiguous|::fill_|::zero_|zeros|empty|::to\b|resize|slice_backward"),
    ("element by element", r"^aten::"),
)
COMPUTES = re.compile("|".join(pattern for _, pattern in KINDS_OF_WORK))

PARTS = ("data", "forward", "backward", "gradients", "optimizer", "reading")


@dataclass(frozen=True, slots=True)
class Operation:
    """One recorded operation."""

    name: str
    """As torch calls it: aten::mm."""
    start: float
    """When it began, on the clock of the profiler."""
    seconds: float
    """What it took itself, without the operations that it called."""
    callers: tuple[str, ...]
    """Names of the operations and regions around it, the nearest first."""
    sequence: int = -1
    """Shared by an operation of the forward pass and those that compute its gradient; -1 for others."""


def work_of(name: str) -> str | None:
    """The kind of work that an operation does; None for a name that only stands around others."""
    return next((kind for kind, pattern in KINDS_OF_WORK if re.search(pattern, name)), None)


def module_of(operation: Operation) -> str | None:
    """What the nearest module around an operation is for; None outside of all that say it."""
    around = (name.removeprefix(MODULE_MARK) for name in operation.callers if name.startswith(MODULE_MARK))
    kinds = (kind for name in around for kind, pattern in KINDS_OF_MODULES if re.search(pattern, name))
    return next(kinds, None)


def by_part(operations: Sequence[Operation], *, steps: int, step_s: float) -> Mapping[str, float]:
    """Seconds of a step in its parts, and what Python takes; they add up to `step_s`.

    Args:
        operations: Of `steps` steps.
        steps: How many were recorded.
        step_s: What a step takes when nobody records it.
    """
    part_of = _parts_of(operations)
    return _shared(operations, part_of, PARTS, steps=steps, step_s=step_s)


def by_work(operations: Sequence[Operation], *, steps: int, step_s: float) -> Mapping[str, float]:
    """Seconds of a step by kind of work; what is done to gradients and in the optimizer counts as such, whatever it computes."""
    part_of = _parts_of(operations)
    modules = {op.sequence: module for op in operations if (module := module_of(op)) and op.sequence >= 0}

    def kind(operation: Operation) -> str:
        part = part_of(operation)
        if part in {"gradients", "optimizer"}:
            return part
        work = work_of(operation.name) or "element by element"
        module = module_of(operation) or modules.get(operation.sequence)
        return module if module and work in SMALL else work

    names = [name for name, _ in KINDS_OF_WORK]
    return _shared(operations, kind, [*names, "gradients", "optimizer"], steps=steps, step_s=step_s)


def _parts_of(operations: Sequence[Operation]) -> Callable[[Operation], str]:
    """The part of a step in which an operation stands."""
    backward_starts = sorted(op.start for op in operations if op.name.startswith(BACKWARD))
    step_starts = sorted(op.start for op in operations if op.name == STEP_MARK)
    ends = _last_of_each_step(step_starts, backward_starts)
    optimizers = sorted(op.start for op in operations if op.name == OPTIMIZER_MARK)

    def part(operation: Operation) -> str:
        around = (operation.name, *operation.callers)
        for mark, name in ((DATA_MARK, "data"), (OPTIMIZER_MARK, "optimizer"), (READING_MARK, "reading")):
            if mark in around:
                return name
        if any(caller.startswith(BACKWARD) for caller in around):
            return "backward"
        step = bisect_right(step_starts, operation.start) - 1
        if step < 0 or operation.start < ends[step]:
            return "forward"
        # Between the way back and the optimizer the gradients are gathered and clipped; what follows it belongs to it.
        following = bisect_right(optimizers, ends[step])
        began = optimizers[following] if following < len(optimizers) else float("inf")
        return "gradients" if operation.start < began else "optimizer"

    return part


def _last_of_each_step(steps: Sequence[float], starts: Sequence[float]) -> list[float]:
    """For each step, when the last of `starts` within it came; infinity where there is none."""
    borders = [*steps, float("inf")][1:]
    within = [[start for start in starts if begin <= start < end] for begin, end in zip(steps, borders, strict=True)]
    return [max(found, default=float("inf")) for found in within]


def _shared(
    operations: Sequence[Operation],
    name_of: Callable[[Operation], str],
    names: Sequence[str],
    *,
    steps: int,
    step_s: float,
) -> Mapping[str, float]:
    """Seconds of a step under each name. Recording slows small operations: all are scaled down if they exceed the step."""
    totals = dict.fromkeys(names, 0.0)
    for operation in operations:
        if COMPUTES.search(operation.name):
            totals[name_of(operation)] += operation.seconds / steps
    computed_s = sum(totals.values())
    scale = min(1.0, step_s / computed_s) if computed_s else 1.0
    shares = {name: seconds * scale for name, seconds in totals.items() if seconds}
    return shares | {PYTHON: max(0.0, step_s - sum(shares.values()))}
