"""The flight check: before a run of its own accord, or alone when somebody asks for it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Clock, Deps
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.process_memory import resident_bytes
from ml_playground.core.run_folder import RunFolder, new_run
from ml_playground.core.storage_errors import free_bytes
from ml_playground.core.torch_tensors import stored_bytes
from ml_playground.planning.memory import LEAST_TRIED_STEPS as LEAST_STEPS
from ml_playground.planning.memory import planned_bytes
from ml_playground.training.assembly import ALL_THE_SAME, Assembly, Opened, assembled, context_of, opened
from ml_playground.training.building import build_hooks
from ml_playground.training.checkpointing.directory_store import SPARE_BYTES
from ml_playground.training.flight_ahead import (
    Ahead,
    Span,
    measured_before,
    prompts_of,
    time_limit,
    time_to_finish,
    timed_saves,
    tokens_to_draw,
    what_is_ahead,
)
from ml_playground.training.flight_check import CHECKPOINT_FILES_BYTES, TENSOR_NAME_BYTES, DiskPlan, disk_problem
from ml_playground.training.flight_patience import said_when_long
from ml_playground.training.flight_report import FlightReport, Memory
from ml_playground.training.flight_trial import ALONE, BEFORE_A_RUN, Tell, Trial, Tried
from ml_playground.training.hook_protocols import Hook
from ml_playground.training.hooks.records import tell_stderr
from ml_playground.training.protocols import TensorGroups
from ml_playground.training.resume import Choice
from ml_playground.training.run_lock import held
from ml_playground.training.weights import parameters_of


def checked(opened: Opened, parts: Assembly, run: RunFolder, clock: Clock) -> FlightReport | None:
    """The check before a run, in its own process, so that what it warms up stays warm; it takes some steps of time.

    None where `runtime.flight_check` is off, or nothing is left to do.

    Raises:
        ConfigError: The memory or the disk does not suffice; says which setting makes it.
        CheckpointError: The learner could not be put back as it was.
    """
    left = opened.max_steps - parts.start.step
    if not opened.job.runtime.flight_check or not left:
        return None
    if left < LEAST_STEPS or measured_before(opened.job):
        return _report(opened, parts, run, None, [])
    with said_when_long(tell_stderr) as tell:
        return _flown(opened, parts, run, Trial(opened, parts, clock, BEFORE_A_RUN, tell))


def checked_alone(job: JobConfig, deps: Deps, choice: Choice, tell: Tell) -> FlightReport:
    """The whole check without a run: also a checkpoint is written, read again and deleted, and nothing else is left either.

    Args:
        job: What would be trained.
        deps: Time.
        choice: Which run a start would go on with, or begin.
        tell: Hears what is under way, a few words at a time.

    Raises:
        PlaygroundError: What a start would be refused for; or the disk did not take the checkpoint.
    """
    run = choice.run or new_run(job.name, deps.clock.now())
    tell("building")
    ready = opened(job.model_copy(update={"runtime": job.runtime.model_copy(update={"flight_check": True})}), run)
    with held(run) if run.path.is_dir() else nullcontext():
        parts = assembled(ready, run, tidies=False)
        hooks = build_hooks(ready.job, context_of(ready, parts, run, deps.clock, {}), parts.checkpoint)
        return _flown(ready, parts, run, Trial(ready, parts, deps.clock, ALONE, tell), run.path.parent, hooks)


def _flown(
    opened: Opened,
    parts: Assembly,
    run: RunFolder,
    trial: Trial,
    place: Path | None = None,
    hooks: Mapping[str, Hook] | None = None,
) -> FlightReport:
    tried = trial.fly(place, hooks)
    notes = ["nothing was tried: there is no memory for a copy of the learner"] if tried is None else tried.notes
    return _report(opened, parts, run, tried, notes)


def _report(opened: Opened, parts: Assembly, run: RunFolder, tried: Tried | None, notes: Sequence[str]) -> FlightReport:
    """What was found.

    Raises:
        ConfigError: The disk does not suffice.
    """
    job, first = opened.job, parts.start.step
    ahead = what_is_ahead(job.train, job.checkpointing, first, opened.max_steps)
    if parts.start.owed:
        ahead = replace(ahead, evaluations=ahead.evaluations + 1, saves=ahead.saves + 1)
    span = _span(opened, parts, ahead, tried)
    plan = DiskPlan(
        job=job,
        first=first,
        last=opened.max_steps,
        checkpoint_bytes=checkpoint_bytes(parts.learner.state_dict(), opened.data.attachments.values()),
        there=[saved.step for saved in parts.store.list()],
        timed_saves=timed_saves(job.checkpointing, None if span is None else span.high_s),
        spare_bytes=SPARE_BYTES,
    )
    free = free_bytes(run.path)
    if problem := disk_problem(plan, free, str(run.path.parent)):
        raise ConfigError(f"{problem} {ALL_THE_SAME}")
    parameters, trained = parameters_of(parts.model)
    return FlightReport(
        parameters=parameters,
        trained=trained,
        unit=parts.objective.unit,
        tried=() if tried is None else tuple(tried.done),
        # Windows does not tell what a process held at most.
        memory=tried.memory if tried is not None and tried.memory.peak_bytes else _planned_memory(opened),
        host=None if tried is None else tried.host,
        disk=plan.need(),
        free_disk_bytes=free,
        ahead=ahead,
        speed=None if tried is None else tried.speed,
        time=span,
        written=None if tried is None else tried.written,
        notes=(*notes, *_prompt_notes(opened.job, parts)),
    )


def _span(opened: Opened, parts: Assembly, ahead: Ahead, tried: Tried | None) -> Span | None:
    if tried is None or not tried.steps_s:
        return None
    limit_s = time_limit(opened.job)
    left_s = None if limit_s is None else max(0.0, limit_s - parts.start.elapsed_s)
    tokens = tokens_to_draw(opened.job, parts.start.step, opened.max_steps)
    return time_to_finish(ahead, tried.pace(tokens), left_s)


def _planned_memory(opened: Opened) -> Memory | None:
    plan = planned_bytes(opened.job, opened.data.facts)
    if plan is None:
        return None
    if opened.job.runtime.device == "cuda":
        return Memory(plan.device, opened.free_bytes, measured=False)
    held = resident_bytes() or 0
    there = None if opened.free_bytes is None else opened.free_bytes + held
    return Memory(held + plan.total, there, measured=False)


def _prompt_notes(job: JobConfig, parts: Assembly) -> Iterator[str]:
    if parts.preview is not None:
        for prompt in prompts_of(job):
            yield from parts.preview.notes(prompt)


def checkpoint_bytes(tensors: TensorGroups, attachments: Iterable[Path]) -> int:
    """What a checkpoint takes on the disk, from above: the rest of it is small."""
    names = sum(map(len, tensors.values()))
    attached = sum(file.stat().st_size for folder in attachments for file in folder.rglob("*") if file.is_file())
    return sum(map(stored_bytes, tensors.values())) + TENSOR_NAME_BYTES * names + attached + CHECKPOINT_FILES_BYTES
