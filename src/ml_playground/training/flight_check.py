"""What a run needs of memory and disk, and which setting makes it fit: pure decisions, free of torch."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ml_playground.configuration.models import CheckpointingSettings, JobConfig
from ml_playground.core.storage_errors import readable_size
from ml_playground.planning.memory import planned_bytes
from ml_playground.training.flight_ahead import what_is_ahead

PLAN_MAY_ERR = 1.1
"""Planned and measured memory lie within a tenth (benchmarks/memory_table.py): a plan that is larger than all that is free by less
than that may still fit."""
ADVISED_SHARE = 0.9
"""Of the free memory that an advised setting may take."""
ROW_BYTES = 256
"""A row of metrics or events as JSON: 150 to 240 bytes."""
TENSOR_NAME_BYTES = 192
"""What the name, form and place of a tensor take in the head of its file."""
CHECKPOINT_FILES_BYTES = 1 << 16
"""What a checkpoint holds beside its tensors and attachments: settings, progress, hooks, manifest; 5 to 40 kB."""


Changes = Mapping[str, int | None]
"""Keys of `[checkpointing]`, and what they are set to."""


def most_at_once(rule: CheckpointingSettings, saves: int, lasting: int) -> int:
    """Checkpoints that lie on the disk at once at most, the one that is being written among them, whatever the losses will be.

    Args:
        rule: What is kept.
        saves: How many the run makes, those that lie there already among them.
        lasting: How many of them are kept for ever.
    """
    return min(saves, rule.keep_last + rule.keep_best + lasting + 1)


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """What a run will take of its disk, beyond what lies there already."""

    checkpoint_bytes: int
    at_once: int
    """Checkpoints that lie there at once at most."""
    records_bytes: int
    """Metrics, events and samples that are still to be written."""
    there_bytes: int = 0
    """Checkpoints of this run that are there already, and count among those at once."""
    spare_bytes: int = 0
    """What the store leaves free beside a checkpoint."""

    @property
    def more_bytes(self) -> int:
        """What must be free; at least the checkpoint that is written before another one goes."""
        growth = self.at_once * self.checkpoint_bytes - self.there_bytes
        saves = max(growth, min(self.at_once, 1) * self.checkpoint_bytes)
        return saves + self.records_bytes + (self.spare_bytes if saves else 0)


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """What decides how much disk a run takes."""

    job: JobConfig
    first: int
    last: int
    checkpoint_bytes: int
    there: Sequence[int] = ()
    """Steps of the checkpoints that the run has already."""
    timed_saves: int = 0
    """Saves that `every_minutes` may add."""
    spare_bytes: int = 0
    """What the store leaves free beside a checkpoint: without it no save begins."""

    def need(self, rule: CheckpointingSettings | None = None) -> DiskNeed:
        """Under the job's own rule of retention, or another one."""
        rule = rule or self.job.checkpointing
        ahead = what_is_ahead(self.job.train, rule, self.first, self.last)
        every = rule.keep_every_steps
        lasting_there = sum(step % every == 0 for step in self.there) if every else 0
        rows = ahead.steps + 2 * ahead.evaluations + ahead.saves
        return DiskNeed(
            checkpoint_bytes=self.checkpoint_bytes,
            at_once=most_at_once(
                rule, len(self.there) + ahead.saves + self.timed_saves, lasting_there + ahead.lasting_saves
            ),
            records_bytes=ROW_BYTES * rows,
            there_bytes=len(self.there) * self.checkpoint_bytes,
            spare_bytes=self.spare_bytes,
        )


def disk_problem(plan: DiskPlan, free_bytes: int, place: str) -> str | None:
    """What to say where the disk is too small; None where it is not.

    Args:
        plan: What the run takes.
        free_bytes: What is free.
        place: Where, for the text.
    """
    need = plan.need()
    if need.more_bytes <= free_bytes:
        return None
    head = (
        f"The run needs {readable_size(need.more_bytes)} of disk ({need.at_once} checkpoints of "
        f"{readable_size(need.checkpoint_bytes)} at once at most, and its metrics), and {readable_size(free_bytes)} are free in {place}; "
    )
    otherwise = "free some space, or set MLP_HOME to a folder on another disk."
    rule = plan.job.checkpointing

    def needed(changes: Changes) -> int:
        return plan.need(rule.model_copy(update=dict(changes))).more_bytes

    changes = next(_mildest_changes(rule, plan.last, lambda changes: needed(changes) <= free_bytes), None)
    if changes is None:
        return f"{head}no setting of [checkpointing] makes it fit: {otherwise}"
    words = (f"--set checkpointing.{key}={'none' if value is None else value}" for key, value in changes.items())
    return f"{head}{' '.join(words)} makes it {readable_size(needed(changes))}. Or {otherwise}"


def _mildest_changes(rule: CheckpointingSettings, last: int, fits: Callable[[Changes], bool]) -> Iterator[Changes]:
    """Changes of what is kept that fit, the mildest first: one setting alone, then the least that can be kept."""
    if rule.keep_every_steps:
        doublings = range(1, max(1, (last // rule.keep_every_steps).bit_length()))
        rarer: list[int | None] = [rule.keep_every_steps << doubling for doubling in doublings]
        yield from ({"keep_every_steps": every} for every in [*rarer, None] if fits({"keep_every_steps": every}))
    for key, least in (("keep_last", 1), ("keep_best", 0)):
        fewer = range(least, getattr(rule, key))
        # Fewer take less: from some number on they fit no longer.
        fitting = bisect_left(fewer, True, key=lambda number, key=key: not fits({key: number}))
        if fitting:
            yield {key: fewer[fitting - 1]}
    least_of_all = {"keep_last": 1, "keep_best": 0, "keep_every_steps": None}
    changes = {key: value for key, value in least_of_all.items() if getattr(rule, key) != value}
    if fits(changes):
        yield changes


def memory_problem(job: JobConfig, facts: Mapping[str, int], free_bytes: int | None) -> str | None:
    """What to say where training is planned to take clearly more memory than its device has; None where it fits.

    The copy from which checkpoints are written does not count: without memory for it they are written more slowly.

    Args:
        job: What is trained, its runtime decided.
        facts: What the data give a model.
        free_bytes: Memory of the device that can still be had; none: unknown.
    """
    splits = job.runtime.on_out_of_memory == "split"
    # A run that divides its batches itself comes down to single rows, but only where it hears of a lack in time: a system lends out
    # more host memory than there is, and kills the process when it is used.
    hears = job.runtime.device != "cpu"
    plan = planned_bytes(with_rows(job, 1) if splits and hears else job, facts)
    if plan is None or free_bytes is None or plan.device <= PLAN_MAY_ERR * free_bytes:
        return None
    too_late = (
        " (on a CPU runtime.on_out_of_memory = 'split' would hear of it too late)" if splits and not hears else ""
    )
    return (
        f"Training is planned to take {readable_size(plan.device)} of memory, and {readable_size(free_bytes)} are free on "
        f"{job.runtime.device}{too_late}; {memory_advice(job, facts, free_bytes)}"
    )


def memory_advice(job: JobConfig, facts: Mapping[str, int], free_bytes: int) -> str:
    """Settings with which training is planned to fit: the same step in smaller batches, then recomputation."""
    rows, count = micro_batch_rows(job), job.train.micro_batches_per_step
    least = planned_bytes(with_rows(job, 1, recomputing=True), facts)
    if least is None:
        return (
            f"what a model of kind {job.model.kind_name!r} takes is unknown: make data.micro_batch_rows smaller (it is {rows}) and "
            f"train.micro_batches_per_step as many times larger (it is {count})."
        )
    for recomputing in (False, True):
        if recomputing and job.runtime.activation_checkpointing is True:
            continue
        for fewer in _divisors(rows * count):
            # Fewer rows alone, or as many as there are with recomputation: never a larger batch.
            if fewer > rows or (fewer == rows and not recomputing):
                continue
            plan = planned_bytes(with_rows(job, fewer, recomputing=recomputing), facts)
            if plan is not None and plan.device <= ADVISED_SHARE * free_bytes:
                words = (
                    f"--set data.micro_batch_rows={fewer} --set train.micro_batches_per_step={rows * count // fewer}"
                )
                more = " --set runtime.activation_checkpointing=true" if recomputing else ""
                return f"{words}{more} makes the same step in {readable_size(plan.device)}."
    return (
        f"even one row at a time takes {readable_size(least.device)}: make the model or data.sequence_tokens smaller."
    )


def micro_batch_rows(job: JobConfig) -> int:
    """Rows of a micro-batch."""
    return cast(Any, job.data).micro_batch_rows


def with_rows(job: JobConfig, rows: int, *, recomputing: bool = False) -> JobConfig:
    """The job with another size of its micro-batches; its plan of memory is asked for, nothing else."""
    runtime = job.runtime.model_copy(update={"activation_checkpointing": True}) if recomputing else job.runtime
    return job.model_copy(update={"data": job.data.model_copy(update={"micro_batch_rows": rows}), "runtime": runtime})


def _divisors(number: int) -> list[int]:
    """The largest first."""
    small = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return sorted({*small, *(number // divisor for divisor in small)}, reverse=True)
