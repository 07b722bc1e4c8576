"""run_job: from a job and what reaches out of the process to a trained run."""

from typing import Any

import torch

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import write_file
from ml_playground.core.deps import Deps
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import RunFolder, new_run, runs_folder
from ml_playground.core.run_schema import Result
from ml_playground.core.seeding import seed_for
from ml_playground.training.building import build_hooks, build_learner, build_model, build_preview, open_data, steps_of
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from ml_playground.training.deciding import Decisions, settled
from ml_playground.training.environment import facts_of, record_start
from ml_playground.training.hook_protocols import HookContext
from ml_playground.training.hooks.control import drop_requests
from ml_playground.training.hooks.journal import EventJournal
from ml_playground.training.hooks.records import EventLog, tell_stderr
from ml_playground.training.loop import Ending, Parts, fit
from ml_playground.training.precision import apply_runtime, runtime_for
from ml_playground.training.protocols import Data, JobResult, Objective
from ml_playground.training.restoring import ended_before, restore
from ml_playground.training.resume import Choice, choose_run, finished_result, read_job, with_decided_runtime
from ml_playground.training.run_lock import held, nothing_left_of_a_false_start, traceback_in


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
        return _finished_before(choice.run)
    run = choice.run or new_run(job.name, deps.clock.now())
    data: Data[Any] = open_data(job)
    max_steps = steps_of(job, data.micro_batches_per_epoch)
    if run.config.exists():
        job = with_decided_runtime(job, read_job(run).runtime)
    decided = runtime_for(job, data.facts, max_steps)
    job = job.model_copy(update={"runtime": settled(job.runtime, decided)})
    with held(run), nothing_left_of_a_false_start(run), traceback_in(run.log):
        if choice.action == "resume" and not choice.differences and finished_result(run) is not None:
            return _finished_before(run)  # by another process, while this one was starting
        drop_requests(run, EventLog(run, deps.clock), step=0)
        ending = _train(job, deps, run, data, max_steps, choice, decided)
    return JobResult(ending.reason, run.path, ending.step, max_steps, ending.metrics, ending.message)


def _finished_before(run: RunFolder) -> JobResult:
    result = Result.model_validate_json(run.result.read_bytes())
    return JobResult(
        result.reason, run.path, result.step, result.max_steps, result.metrics, result.message, nothing_to_do=True
    )


def _train(
    job: JobConfig, deps: Deps, run: RunFolder, data: Data[Any], max_steps: int, choice: Choice, decided: Decisions
) -> Ending:
    device = apply_runtime(job.runtime)
    store = DirectoryStore(run.checkpoints, job.checkpointing)
    checkpoint = store.latest()
    torch.manual_seed(seed_for(job.seed, "weights"))
    model = build_model(job, data.facts, device, load_pretrained=checkpoint is None)
    objective: Objective[Any, Any] = load_object(families.OBJECTIVES[job.objective.kind_name].build)(job.objective)
    learner = build_learner(job, model, objective)
    start = restore(learner, checkpoint, store.list(), data.fingerprint, max_steps)
    epochs = max_steps * job.train.micro_batches_per_step / data.micro_batches_per_epoch
    context = HookContext(
        job=job,
        run=run,
        clock=deps.clock,
        unit=objective.unit,
        max_steps=max_steps,
        preview=build_preview(job, model, learner, data),
        first_step=start.step,
        elapsed_s=start.elapsed_s,
        facts=facts_of(job, model, epochs, store.problems, choice),
    )
    parts = Parts(
        learner=learner,
        data=data,
        store=store,
        hooks=build_hooks(job, context, checkpoint),
        journal=EventJournal(run, deps.clock),
        schedule=load_object(families.SCHEDULES[job.schedule.kind_name].build)(job.schedule, max_steps),
        deps=deps,
        train=job.train,
        checkpointing=job.checkpointing,
        max_steps=max_steps,
        config=job.model_dump_json(),
        tell=tell_stderr,
    )
    record_start(job, run, decided, EventLog(run, deps.clock), start.step)
    if choice.differences:
        EventLog(run, deps.clock).note("branched", start.step, differences=[str(d) for d in choice.differences])
    with data.reading_ahead(device):
        ending = ended_before(checkpoint, choice) or fit(parts, start)
    metrics = dict(ending.metrics)
    result = Result(
        reason=ending.reason, step=ending.step, max_steps=max_steps, metrics=metrics, message=ending.message
    )
    write_file(run.result, result.model_dump_json(indent=2) + "\n")
    return ending
