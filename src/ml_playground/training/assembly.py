"""What the engine hands to the loop, and what the flight check tries before: opened first, then built, in the order that a resume needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Clock
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.machine import has_glibc
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.seeding import seed_for
from ml_playground.core.torch_machine import free_bytes
from ml_playground.training.building import (
    build_learner,
    build_model,
    build_preview,
    open_data,
    shortened_warmup,
    steps_of,
    with_decided_warmup,
)
from ml_playground.training.checkpoint_protocols import OpenCheckpoint
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from ml_playground.training.checkpointing.snapshot_buffer import SnapshotBuffer
from ml_playground.training.deciding import Decisions, settled
from ml_playground.training.flight_check import memory_problem
from ml_playground.training.hook_protocols import HookContext, Preview
from ml_playground.training.learner import GradientLearner
from ml_playground.training.precision import apply_runtime, device_for, runtime_for
from ml_playground.training.protocols import Data, Objective
from ml_playground.training.restoring import owed_by, restore
from ml_playground.training.resume import read_job, with_decided
from ml_playground.training.stretch import Start

ALL_THE_SAME = "To try it all the same: --set runtime.flight_check=false."


@dataclass(frozen=True, slots=True)
class Opened:
    """A job whose runtime is decided, and its data; nothing is built yet."""

    job: JobConfig
    decided: Decisions
    """Each value of `[runtime]`, and why."""
    data: Data[Any]
    max_steps: int
    free_bytes: int | None
    """Memory of the device before anything is built; none: unknown."""
    shortened_warmup: int | None = None
    """Steps of an "auto" warm-up that the run is too short for; none: it is the usual one, or what its user or an earlier start said."""


def opened(job: JobConfig, run: RunFolder) -> Opened:
    """Open the data of a job, and decide its runtime and its warm-up once; a run that began before goes on as it was decided then.

    Raises:
        DataError: The data are not prepared, or too short.
        ConfigError: The device is not there, the warm-up is longer than the run, or the memory is far too small.
    """
    data: Data[Any] = open_data(job)
    if run.config.exists():
        job = with_decided(job, read_job(run))
    max_steps = steps_of(job, data.micro_batches_per_epoch)
    shortened = shortened_warmup(job, max_steps)
    job = with_decided_warmup(job, max_steps)
    decided = runtime_for(job, data.facts, max_steps)
    job = job.model_copy(update={"runtime": settled(job.runtime, decided)})
    free = free_bytes(device_for(job.runtime.device))
    if job.runtime.flight_check and (problem := memory_problem(job, data.facts, free)):
        raise ConfigError(f"{problem} {ALL_THE_SAME}")
    return Opened(job, decided, data, max_steps, free, shortened)


@dataclass(frozen=True, slots=True)
class Assembly:
    """A learner in the state in which the run begins or goes on, and what stands around it."""

    device: torch.device
    model: nn.Module
    objective: Objective[Any, Any]
    learner: GradientLearner
    store: DirectoryStore
    buffer: SnapshotBuffer
    """The store's: a copy of the learner's state fits into it."""
    checkpoint: OpenCheckpoint | None
    """From which the run goes on."""
    start: Start
    preview: Preview | None


def assembled(opened: Opened, run: RunFolder, *, tidies: bool = True) -> Assembly:
    """Build the parts of a job and load the run's newest checkpoint into them, if it has one.

    Args:
        opened: The job and its data.
        run: Where its checkpoints lie.
        tidies: Whether what a killed process has left among them is cleared away.

    Raises:
        PlaygroundError: Something does not fit; says what.
    """
    job, data = opened.job, opened.data
    device = apply_runtime(job.runtime)
    # A run that began on another system may say so where nothing is kept.
    buffer = SnapshotBuffer(among_freed=job.runtime.allocator == "retain" and has_glibc())
    store = DirectoryStore(run.checkpoints, job.checkpointing, merit=job.merit, buffer=buffer)
    checkpoint = store.latest(tidies=tidies)
    torch.manual_seed(seed_for(job.seed, "weights"))
    model = build_model(job, data.facts, device, load_pretrained=checkpoint is None)
    objective: Objective[Any, Any] = load_object(families.OBJECTIVES[job.objective.kind_name].build)(job.objective)
    learner = build_learner(job, model, objective)
    start = restore(learner, checkpoint, store.list(), data.fingerprint, opened.max_steps, job.merit)
    return Assembly(
        device=device,
        model=model,
        objective=objective,
        learner=learner,
        store=store,
        buffer=buffer,
        checkpoint=checkpoint,
        start=owed_by(start, checkpoint, job),
        preview=build_preview(job, model, learner, data),
    )


def context_of(opened: Opened, parts: Assembly, run: RunFolder, clock: Clock, facts: Mapping[str, str]) -> HookContext:
    """What the hooks of a run are built from; `facts` is what the console shows at the start."""
    return HookContext(
        job=opened.job,
        run=run,
        clock=clock,
        unit=parts.objective.unit,
        max_steps=opened.max_steps,
        preview=parts.preview,
        first_step=parts.start.step,
        owes_evaluation=bool(parts.start.owed),
        elapsed_s=parts.start.elapsed_s,
        facts=facts,
    )
