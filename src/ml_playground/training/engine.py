"""run_job: from a job and what reaches out of the process to a trained run."""

from contextlib import ExitStack

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import write_file
from ml_playground.core.deps import Deps
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import RunFolder, new_run, runs_folder
from ml_playground.core.run_schema import Result
from ml_playground.training.assembly import Opened, assembled, context_of, opened
from ml_playground.training.building import build_hooks
from ml_playground.training.environment import facts_of, record_start
from ml_playground.training.evidence import keep_evidence
from ml_playground.training.flight import checked
from ml_playground.training.hooks.control import drop_requests
from ml_playground.training.hooks.journal import EventJournal
from ml_playground.training.hooks.records import EventLog, tell_stderr
from ml_playground.training.loop import Parts, fit
from ml_playground.training.memory import Room, give_back_memory
from ml_playground.training.protocols import JobResult
from ml_playground.training.restoring import ended_before, finished_before, going_on, guard_of
from ml_playground.training.resume import Choice, choose_run, finished_result
from ml_playground.training.run_lock import held, nothing_left_of_a_false_start, one_start_at_a_time, traceback_in
from ml_playground.training.stretch import Ending, WentBack, paused


def run_job(job: JobConfig, deps: Deps, choice: Choice | None = None) -> JobResult:
    """Train a job to its end, or as far as it gets.

    Args:
        job: What to compute; its data must be prepared.
        deps: Time, network, the user's wish to stop.
        choice: Which run to go on with; none: as `choose_run` decides, so that no two processes begin one job at once.

    Raises:
        PlaygroundError: Something that the user can mend; the run keeps its last checkpoint.
    """
    with ExitStack() as during:
        with one_start_at_a_time(job.name):
            choice = choice or choose_run(job, runs_folder())
            if choice.action == "nothing_to_do" and choice.run is not None:
                return finished_before(choice.run)
            run = choice.run or new_run(job.name, deps.clock.now())
            ready = opened(job, run)
            during.enter_context(held(run))
            during.enter_context(nothing_left_of_a_false_start(run, ready.job))
        during.enter_context(traceback_in(run.log, ready.job))
        if choice.action == "resume" and not choice.differences and finished_result(run) is not None:
            return finished_before(run)  # by another process, while this one was starting
        ending = _train(ready, deps, run, choice)
    return JobResult(ending.reason, run.path, ending.step, ready.max_steps, ending.metrics, ending.message)


def _train(ready: Opened, deps: Deps, run: RunFolder, choice: Choice) -> Ending:
    drop_requests(run, EventLog(run, deps.clock), step=0)
    ended = _stretch(ready, deps, run, choice, None)
    while isinstance(ended, WentBack):
        # As after a kill: everything is built anew from what lies on the disk, and what was built before is let go first.
        give_back_memory()
        # What is undone is written down, so that there is nothing to save: a stop need not wait until it is made good.
        stop = deps.stop_requested()
        ended = paused(ended.saved_step, {}, "at step") if stop else _stretch(ready, deps, run, choice, ended)
    result = Result(
        reason=ended.reason,
        step=ended.step,
        max_steps=ready.max_steps,
        metrics=dict(ended.metrics),
        message=ended.message,
    )
    write_file(run.result, result.model_dump_json(indent=2) + "\n")
    return ended


def _stretch(
    ready: Opened, deps: Deps, run: RunFolder, choice: Choice, went_back: WentBack | None
) -> Ending | WentBack:
    """Train from the newest checkpoint to the end, or until a step is undone."""
    job, data, max_steps = ready.job, ready.data, ready.max_steps
    built = assembled(ready, run)
    ended = ended_before(built.checkpoint, job)
    report = checked(ready, built, run, deps.clock) if ended is None and went_back is None else None
    journal = EventJournal(run, deps.clock)
    guard = guard_of(job, built.checkpoint, journal.roll_backs, journal.splits, went_back)
    facts = facts_of(ready, built, choice, report) | guard.facts
    context = context_of(ready, built, run, deps.clock, facts)
    parts = Parts(
        learner=built.learner,
        data=data,
        store=built.store,
        hooks=build_hooks(job, context, built.checkpoint),
        journal=journal,
        guard=guard,
        room=Room(job, guard, journal, tell_stderr),
        schedule=load_object(families.SCHEDULES[job.schedule.kind_name].build)(job.schedule, max_steps),
        deps=deps,
        train=job.train,
        checkpointing=job.checkpointing,
        max_steps=max_steps,
        config=job.model_dump_json(),
        tell=tell_stderr,
    )
    if went_back is None:
        record_start(ready, run, report, EventLog(run, deps.clock), built.start.step)
        if choice.differences:
            journal.note("branched", built.start.step, differences=[str(d) for d in choice.differences])
    keep_evidence(run, ready, built, guard, tell_stderr)
    with data.reading_ahead(built.device):
        return ended or fit(parts, going_on(built.start, went_back))
