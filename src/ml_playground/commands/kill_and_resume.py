"""Trains a job once left alone and once killed and resumed, compares the two, and certifies that they are the same to the bit."""

import json
import random
import shutil
import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ml_playground.commands.training_process import TrainingProcess, saved_step, written_step
from ml_playground.configuration.fingerprint import config_hash
from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import write_file
from ml_playground.core.certificate import Certificate, Circumstances, Kill
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import RunError
from ml_playground.core.humanise import plural
from ml_playground.core.leaving import leave_at_once
from ml_playground.core.run_folder import RunFolder, new_run_id, verifications_folder
from ml_playground.core.run_schema import FINISHED, Event
from ml_playground.monitoring.comparison import Comparison, compare_runs, last_checkpoint
from ml_playground.monitoring.reader import read_result, read_run
from ml_playground.training.resume import differences, read_job
from ml_playground.training.verification import promise_of, verification_job

Show = Callable[[str], None]
"""Hears how far a process has come, a few words at a time."""

TRIES = 20
"""Times that a run is begun until it was killed as often as it should be."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a job is verified."""

    steps: int
    """Before the checkpoint."""
    more: int
    """After it."""
    kills: int = 1
    anywhere: bool = False
    """The first kill may come before the checkpoint; all others may anyway, but of several one comes after a checkpoint."""
    keep: bool = False
    """The run that was left alone stays too."""

    @property
    def max_steps(self) -> int:
        """Steps in all."""
        return self.steps + self.more


@dataclass(frozen=True, slots=True)
class Verified:
    """Two runs of a job, and how they compare."""

    job: JobConfig
    """As it was run, every "auto" decided."""
    comparison: Comparison
    whole: RunFolder
    resumed: RunFolder
    certificate: Certificate | None
    """None where the runs differ; both stay then."""


@dataclass(frozen=True, slots=True)
class _Times:
    """Of the process that was left alone: when a kill of the other one makes sense."""

    saved_s: float
    """From its start until the checkpoint was durable."""
    ended_s: float
    """From its start until its last checkpoint was durable: a kill after that leaves nothing to do."""
    last_step: int


def kill_and_resume(own: JobConfig, plan: Plan, deps: Deps, say: Callable[[str], None], show: Show) -> Verified:
    """Train a short form of a job twice, and compare; its data must be prepared. `say` hears what comes next.

    Raises:
        RunError: The job does not come to its end, or is over before it can be killed.
        WorkerError: A training failed.
    """
    job = verification_job(own, steps=plan.steps, more=plan.more)
    place = verifications_folder() / job.name / new_run_id(deps.clock.now())
    resumed, whole = RunFolder(place), RunFolder(place.with_name(f"{place.name}-whole"))
    with _nothing_left_when_broken_off(whole, resumed):
        say(f"[1/3] {plural(plan.max_steps, 'step')}, left alone")
        times = _train_whole(whole, job, plan, deps, show)
        # What was "auto" is decided once, for both.
        job = read_job(whole)
        say(f"[2/3] the same again, killed {'once' if plan.kills == 1 else f'{plan.kills} times'} and resumed")
        kills = _train_killed(resumed, job, plan, times, deps, show)
        say("[3/3] comparing every loss and every tensor")
        comparison = compare_runs(whole, resumed)
        if not comparison.equal:
            return Verified(job, comparison, whole, resumed, None)
        certificate = _certificate(own, resumed, plan, kills, comparison, deps)
        write_file(resumed.certificate, certificate.model_dump_json(indent=2) + "\n")
    if not plan.keep:
        shutil.rmtree(whole.path)
    return Verified(job, comparison, whole, resumed, certificate)


def _train_whole(run: RunFolder, job: JobConfig, plan: Plan, deps: Deps, show: Show) -> _Times:
    write_file(run.config, job.model_dump_json())
    with TrainingProcess(run, deps, show) as process:
        saved = process.wait_until(lambda: saved_step(run) >= plan.steps)
        saved_s = process.seconds
        process.wait_until(lambda: saved_step(run) >= plan.max_steps)
        ended_s = process.seconds
        process.wait()
    result = read_result(run)
    if result is None or result.reason not in FINISHED:
        why = f" ({result.reason}: {result.message})" if result else ""
        raise RunError(f"{job.name} does not come to its end{why}; mend that first, then verify it.")
    if not saved:
        ended = written_step(run)
        raise RunError(
            f"{job.name} ends at step {ended} by its own rule, before step {plan.steps}; "
            f"verify fewer steps: --steps {max(1, ended // 2)}."
        )
    return _Times(saved_s, ended_s, result.step)


def _train_killed(run: RunFolder, job: JobConfig, plan: Plan, times: _Times, deps: Deps, show: Show) -> list[Kill]:
    latest_s = times.ended_s
    for _ in range(TRIES):
        write_file(run.config, job.model_dump_json())
        kills = kill_it(run, plan, (times.saved_s, latest_s), deps, show)
        if len(kills) == plan.kills and any(kill.resumed_at < times.last_step for kill in kills):
            with TrainingProcess(run, deps, show) as process:
                process.wait()
            refuse_a_new_beginning(read_run(run).events, kills, times.last_step)
            return kills
        # It was faster than the one that was left alone, and a resume with nothing to do proves nothing.
        latest_s = times.saved_s + (latest_s - times.saved_s) / 2
        shutil.rmtree(run.path)
    raise RunError(
        f"The run was over {TRIES} times before it could be killed, for the steps after its checkpoint take no time; "
        f"verify more of them: --more {10 * plan.more}."
    )


def refuse_a_new_beginning(events: Sequence[Event], kills: Sequence[Kill], last_step: int) -> None:
    """Equal bits prove a resume only where there was one: a run that begins anew ends with them too.

    Raises:
        RunError: The process that made the last steps did not go on from the checkpoint that was there.
    """
    starts = [event for event in events if event.kind in ("started", "resumed")]
    went_on = [event.step for event in starts if event.step]
    # Where the last checkpoint of all was there when it was killed, the process after it had nothing to do, and notes no start.
    last = [kill for kill in kills if kill.resumed_at < last_step][-1]
    # A job without metrics notes no starts.
    if starts and last.resumed_at and last.resumed_at not in went_on:
        raise RunError(
            f"After a kill a checkpoint of step {last.resumed_at} was there, but the run did not go on from it "
            f"(it went on from: {', '.join(map(str, went_on)) or 'none, it began anew'}); nothing is certified."
        )


def kill_it(run: RunFolder, plan: Plan, between_s: tuple[float, float], deps: Deps, show: Show) -> list[Kill]:
    """Start and kill a run as often as planned; fewer kills where it comes to its end before.

    `between_s` are the seconds from its start until its first checkpoint and its last one are durable, as far as they are known.
    """
    saved_s, latest_s = between_s
    draw = random.Random()  # noqa: S311 - the moment of a kill is no secret
    kills: list[Kill] = []
    while len(kills) < plan.kills:
        # Who asks for several kills wants a resume: where all others came too early for one, the last waits for its checkpoint.
        too_early = plan.kills > 1 and len(kills) == plan.kills - 1 and not any(kill.resumed_at for kill in kills)
        with TrainingProcess(run, deps, show) as process:
            if (kills or plan.anywhere) and not too_early:
                process.wait_for_seconds(draw.uniform(0, latest_s))
            else:
                process.wait_until(lambda: saved_step(run) >= plan.steps)
                process.wait_for_seconds(process.seconds + draw.uniform(0, latest_s - saved_s))
            kill = process.kill()
        if kill is None:
            break
        kills.append(kill)
    return kills


def _certificate(
    own: JobConfig, run: RunFolder, plan: Plan, kills: list[Kill], comparison: Comparison, deps: Deps
) -> Certificate:
    job = read_job(run)
    changes = differences(own, verification_job(own, steps=plan.steps, more=plan.more))
    return Certificate(
        created_at=deps.clock.now(),
        experiment=job.name,
        settings_hash=config_hash(job),
        data_fingerprint=last_checkpoint(run).data_fingerprint,
        steps=plan.steps,
        max_steps=plan.max_steps,
        kills=kills,
        equal=comparison.equality,
        circumstances=_circumstances(job, read_run(run).environment),
        changed=[f"{one.path}: {json.dumps(one.saved)} -> {json.dumps(one.wanted)}" for one in changes],
        promise=promise_of(job),
    )


def _circumstances(job: JobConfig, environment: Mapping[str, Any]) -> Circumstances:
    recorded = {name: environment[name] for name in Circumstances.model_fields if name in environment}
    return Circumstances(dtype=job.runtime.dtype, deterministic=job.runtime.deterministic, **recorded)


@contextmanager
def _nothing_left_when_broken_off(*runs: RunFolder) -> Generator[None]:
    """No half of a verification stays, whatever ends it; SIGTERM does what Ctrl-C does, also where a shell ignores that."""
    former = {number: signal.signal(number, leave_at_once) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException:
        for run in runs:
            shutil.rmtree(run.path, ignore_errors=True)
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
