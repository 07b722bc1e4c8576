"""run_job: from a job and what reaches out of the process to a trained run."""

import math
from typing import Any

import torch

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import write_file
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import RunFolder, new_run_id, runs_folder
from ml_playground.core.run_schema import Result
from ml_playground.core.seeding import seed_for
from ml_playground.training.building import build_hooks, build_learner, build_model, build_preview, open_data
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from ml_playground.training.environment import facts_of, record_start
from ml_playground.training.hook_protocols import HookContext
from ml_playground.training.hooks.journal import EventJournal
from ml_playground.training.learner import GradientLearner
from ml_playground.training.loop import Ending, Parts, Start, fit
from ml_playground.training.precision import apply_runtime, decide_runtime
from ml_playground.training.protocols import Data, JobResult, Objective, OpenCheckpoint
from ml_playground.training.resume import Choice, choose_run, read_job, with_decided_runtime
from ml_playground.training.run_lock import held, nothing_left_of_a_false_start


def run_job(job: JobConfig, deps: Deps, choice: Choice | None = None) -> JobResult:
    """Train a job to its end, or as far as it gets.

    Args:
        job: What to compute; its data must be prepared.
        deps: Time, network, the user's wish to stop.
        choice: Which run to go on with; none: as `choose_run` decides.

    Raises:
        PlaygroundError: Something that the user can mend; the run keeps its last checkpoint.
    """
    choice = choice or choose_run(job, runs_folder())
    if choice.action == "nothing_to_do" and choice.run is not None:
        result = Result.model_validate_json(choice.run.result.read_bytes())
        return JobResult(result.reason, choice.run.path, result.step, result.max_steps, result.metrics, "nothing to do")
    run = choice.run or RunFolder(runs_folder() / job.name / new_run_id(deps.clock.now()))
    data: Data[Any] = open_data(job)
    max_steps = steps_of(job, data.micro_batches_per_epoch)
    if run.config.exists():
        job = with_decided_runtime(job, read_job(run).runtime)
    job = job.model_copy(update={"runtime": decide_runtime(job.runtime, max_steps=max_steps)})
    with held(run), nothing_left_of_a_false_start(run):
        ending = _train(job, deps, run, data, max_steps, choice)
    return JobResult(ending.reason, run.path, ending.step, max_steps, ending.metrics, ending.message)


def steps_of(job: JobConfig, micro_batches_per_epoch: float) -> int:
    """Optimizer updates in all: as set, or computed from the epochs, rounded up."""
    if job.train.max_steps is not None:
        return job.train.max_steps
    return max(1, math.ceil((job.train.max_epochs or 0) * micro_batches_per_epoch / job.train.micro_batches_per_step))


def _train(job: JobConfig, deps: Deps, run: RunFolder, data: Data[Any], max_steps: int, choice: Choice) -> Ending:
    device = apply_runtime(job.runtime)
    store = DirectoryStore(run.checkpoints, job.checkpointing)
    checkpoint = store.latest()
    torch.manual_seed(seed_for(job.seed, "weights"))
    model = build_model(job, data.facts, device, load_pretrained=checkpoint is None)
    objective: Objective[Any, Any] = load_object(families.OBJECTIVES[job.objective.kind_name].build)(job.objective)
    learner = build_learner(job, model, objective)
    start = _restore(learner, checkpoint, store, data)
    record_start(job, run)
    context = HookContext(
        job=job,
        run=run,
        clock=deps.clock,
        unit=objective.unit,
        max_steps=max_steps,
        preview=build_preview(job, model, learner, data),
        first_step=start.step,
        elapsed_s=start.elapsed_s,
        facts=facts_of(job, model, store.problems, choice),
    )
    journal = EventJournal(run, deps.clock)
    hooks = build_hooks(job, context, checkpoint.hooks if checkpoint is not None else {})
    schedule = load_object(families.SCHEDULES[job.schedule.kind_name].build)(job.schedule, max_steps)
    parts = Parts(
        learner,
        data,
        store,
        hooks,
        journal,
        schedule,
        deps,
        job.train,
        job.checkpointing,
        max_steps,
        job.model_dump_json(),
    )
    ending = _fit(parts, start)
    result = Result(
        reason=ending.reason,
        step=ending.step,
        max_steps=max_steps,
        metrics=dict(ending.metrics),
        message=ending.message,
    )
    write_file(run.result, result.model_dump_json(indent=2) + "\n")
    return ending


def _fit(parts: Parts, start: Start) -> Ending:
    try:
        return fit(parts, start)
    except (RuntimeError, MemoryError) as error:
        # torch.OutOfMemoryError is CUDA's; the CPU allocator raises a plain RuntimeError with this text.
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        first_line = str(error).partition("\n")[0]
        advice = "halve data.micro_batch_rows and double train.micro_batches_per_step: the same step in less memory"
        return Ending("out_of_memory", start.step, {}, f"{first_line or 'out of memory'}; {advice}")


def _restore(
    learner: GradientLearner, checkpoint: OpenCheckpoint | None, store: DirectoryStore, data: Data[Any]
) -> Start:
    if checkpoint is None:
        return Start()
    if checkpoint.data_fingerprint != data.fingerprint:
        raise DataError(
            f"{checkpoint.reference} was trained on other data (fingerprint {checkpoint.data_fingerprint[:12]}, "
            f"the prepared data now have {data.fingerprint[:12]}); prepare the former data again, or start with --fresh."
        )
    learner.load_state_dict(checkpoint.tensors())
    losses = [saved.metrics["loss"] for saved in store.list() if saved.metrics and "loss" in saved.metrics]
    progress = checkpoint.progress
    return Start(
        step=progress.step,
        targets=progress.targets,
        elapsed_s=progress.elapsed_s,
        lr_factor=checkpoint.lr_factor,
        best_loss=min(losses, default=math.inf),
    )
