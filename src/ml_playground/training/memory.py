"""Tells a lack of memory from other errors, says what to change, and computes in parts what does not fit whole."""

import gc
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch

from ml_playground.configuration.models import JobConfig
from ml_playground.core.course import Phase
from ml_playground.core.machine import give_back_freed_memory
from ml_playground.training.guard import Guard
from ml_playground.training.hook_protocols import Journal
from ml_playground.training.protocols import Movable
from ml_playground.training.settings import Muon

T = TypeVar("T")

# torch.OutOfMemoryError is CUDA's; the allocators of CPU and MPS, and libraries, raise a plain RuntimeError with these texts.
# The last is all that oneDNN says where it finds no memory for its own buffers.
TEXTS = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "std::bad_alloc", "could not create a primitive")


class UpdateOutOfMemoryError(MemoryError):
    """Memory ran out while weights were being moved: the step is half done, and smaller batches would not help."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in TEXTS)


@contextmanager
def not_in_parts() -> Generator[None]:
    """What runs out of memory inside is not tried again in parts.

    Raises:
        UpdateOutOfMemoryError: Memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise UpdateOutOfMemoryError(str(error)) from error
        raise


class Divide:
    """Cuts batches into parts, and remembers how many rows the largest has."""

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self.most_rows = 0

    def __call__(self, batch: Movable) -> Sequence[Movable]:
        """At most so many parts; the batch itself where it is one."""
        pieces = [batch] if self._parts == 1 else batch.split(self._parts)
        self.most_rows = max(self.most_rows, *(piece.rows for piece in pieces))
        return pieces


class Room:
    """Computes a phase of a step, in parts from where whole micro-batches no longer fitted; what a run may do about memory.

    With `runtime.on_out_of_memory = "split"` parts are halved until they fit, down to single rows; that is noted in the journal
    and kept by the guard, so that the same steps are computed in the same parts by a resumed run.
    """

    def __init__(self, job: JobConfig, guard: Guard, journal: Journal, tell: Callable[[str], None]) -> None:
        self._job = job
        self._guard = guard
        self._journal = journal
        self._tell = tell

    def fitting(self, phase: Phase, step: int, compute: Callable[[Divide], T]) -> T:
        """What `compute` answers; it is called again, with smaller parts, where memory gave out.

        Args:
            phase: Training and evaluation are divided each by its own need.
            step: The step that is made, or after which is evaluated, counted from 1.
            compute: Must leave nothing behind when memory gives out within it.

        Raises:
            MemoryError, RuntimeError: It does not fit, and may not or cannot be divided further.
        """
        while True:
            divide = Divide(self._guard.parts(phase, step))
            try:
                return compute(divide)
            except UpdateOutOfMemoryError:
                raise
            except (RuntimeError, MemoryError) as error:
                may = self._job.runtime.on_out_of_memory == "split" and divide.most_rows > 1
                if not may or not is_out_of_memory(error):
                    raise
                problem = _first_line(error)
            # Not in the handler: the error holds the frames that it came through, and they hold their tensors.
            give_back_memory()
            split = self._guard.split(phase, step)
            self._journal.note("split", step, **split.model_dump(mode="json"), problem=problem)
            self._tell(
                f"step {step:,}: {phase} ran out of memory ({problem}); from here on each micro-batch is computed in "
                f"{split.parts} parts, which changes nothing but the order of a sum{self._dropout_note}"
            )

    def advice(self, error: BaseException) -> str | None:
        """What happened and what to change to which value, in one line; None for any other error."""
        return what_to_change(error, self._job, by_rows=self._job.runtime.on_out_of_memory != "split")

    @property
    def _dropout_note(self) -> str:
        drops = any(value for name, value in self._job.model.model_dump().items() if name.endswith("dropout"))
        return ", and which units dropout drops" if drops else ""


def what_to_change(error: BaseException, job: JobConfig, *, by_rows: bool) -> str | None:
    """What happened and what to change to which value, in one line; None for any other error.

    Args:
        error: What was raised.
        job: What is trained.
        by_rows: Whether smaller micro-batches could help.
    """
    if not is_out_of_memory(error):
        return None
    if isinstance(error, UpdateOutOfMemoryError):
        remedy = smaller_update(job)
    else:
        remedy = fewer_rows(job) if by_rows and _rows(job) > 1 else smaller_model(job)
    return f"{_first_line(error)}; {remedy}"


def fewer_rows(job: JobConfig) -> str:
    """The same step from smaller micro-batches: which settings, to which values."""
    rows, count = _rows(job), job.train.micro_batches_per_step
    smaller, more = same_step(rows, count)
    return (
        f"the same step in less memory: data.micro_batch_rows = {smaller} and train.micro_batches_per_step = {more} "
        f"(they are {rows} and {count}); or let the run see to it: --set runtime.on_out_of_memory=split goes on with this run"
    )


def smaller_model(job: JobConfig) -> str:
    """What is left to change where a single row, or the model itself, is too large."""
    ways: list[str] = []
    tokens = cast(int, getattr(job.data, "sequence_tokens", 1))
    if tokens > 1:
        ways.append(f"halve data.sequence_tokens (to {tokens // 2})")
    if job.runtime.activation_checkpointing is not True:
        ways.append("set runtime.activation_checkpointing = true")
    if job.train.ema_decay:
        ways.append("set train.ema_decay = 0")
    ways.append("make the model smaller, by fewer layers or a smaller width")
    return f"fewer rows would not help: {', '.join(ways[:-1])}{' or ' if ways[:-1] else ''}{ways[-1]}, and start anew: --fresh"


def smaller_update(job: JobConfig) -> str:
    """What is left to change where memory runs out when weights are moved: activations have gone by then."""
    ways = [f"set optimizer.kind = adamw ({job.optimizer.kind_name} makes room for its updates, adamw needs none)"]
    if not isinstance(job.optimizer, Muon):
        ways = []
    if job.train.ema_decay:
        ways.append("set train.ema_decay = 0")
    ways.append("make the model smaller, by fewer layers or a smaller width")
    return (
        "neither fewer rows nor a shorter context would help where the weights are updated: "
        f"{', '.join(ways[:-1])}{' or ' if ways[:-1] else ''}{ways[-1]}, and start anew: --fresh"
    )


def same_step(rows: int, count: int) -> tuple[int, int]:
    """Rows of a micro-batch and micro-batches of a step, of the same product: about half the rows, at least one."""
    divisor = next((d for d in range(2, rows + 1) if rows % d == 0), 1)
    return rows // divisor, count * divisor


def give_back_memory() -> None:
    """Free what nobody holds any more: objects in circles, the caches of devices, and what the C library keeps."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    give_back_freed_memory()


def _rows(job: JobConfig) -> int:
    """Rows of a micro-batch; 1 for data that have none to divide."""
    return cast(int, getattr(cast(Any, job.data), "micro_batch_rows", 1))


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or "out of memory"
