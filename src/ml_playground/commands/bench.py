"""`mlp bench`: how fast a job trains here, how much of the machine it uses, and where the time goes."""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from ml_playground.commands.options import ConfigFiles, Experiment, Json, Sets, as_typed, naming
from ml_playground.configuration import families
from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.core.humanise import count, duration, json_text, plural
from ml_playground.core.machine_rates import Rates
from ml_playground.core.values import NO_COST, ModelCost
from ml_playground.planning.memory import MemoryPlan, planned_bytes

if TYPE_CHECKING:
    from ml_playground.training.anatomy import Anatomy

BAR_WIDTH = 32
# Torch's profiler announces itself on stderr below this level; read when torch is imported.
QUIET_PROFILER = "99"


def bench(experiment: Experiment, sets: Sets = None, files: ConfigFiles = None, json_output: Json = False) -> None:
    """Measure how fast a job trains on this machine, and where the time of a step goes.

    Trains for some seconds on the job's prepared data and throws the weights away: no run is made. Shown are tokens a second, the
    share of the arithmetic that the device was measured to do, the most memory beside what was planned, and a step by its
    parts and by kinds of work. Settings are tried with --set, e.g. --set runtime.threads=1.
    """
    job = load(experiment, sets=sets or (), files=files or ()).job
    typed = as_typed(experiment, sets, files)
    if not prepared_folder(job.prepare).is_dir():
        raise DataError(f"The data of {job.name!r} are not prepared; run: mlp prepare {typed}")
    os.environ.setdefault("KINETO_LOG_LEVEL", QUIET_PROFILER)
    with naming(typed):
        try:
            anatomy, rates = _measured(job)
        finally:
            say("")
    cost = families.cost_of(anatomy.job.model, anatomy.facts) or NO_COST
    plan = planned_bytes(anatomy.job, anatomy.facts)
    text = (
        json_text(as_json(anatomy, cost, rates, plan)) if json_output else "\n".join(lines(anatomy, cost, rates, plan))
    )
    typer.echo(text)


def _measured(job: JobConfig) -> tuple["Anatomy", Rates]:
    """The job's step, and what its device can do."""
    say("loading torch")
    from ml_playground.core.torch_machine import rates_of  # noqa: PLC0415 - torch takes seconds; refusals come first
    from ml_playground.training.anatomy import dissect  # noqa: PLC0415

    anatomy = dissect(job, Deps().clock, say)
    say("the device's own rates")
    return anatomy, rates_of(anatomy.device)


def say(text: str) -> None:
    """What is under way, on a terminal: one line that is wiped at the end."""
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{text}{' ...' if text else ''}", nl=False, err=True)


def share_of_limit(anatomy: "Anatomy", cost: ModelCost, rates: Rates) -> float:
    """Share of the measured arithmetic of the device that training uses."""
    return anatomy.targets_per_s * cost.flops_per_token / rates.flops_per_s(anatomy.job.runtime.dtype)


def as_json(anatomy: "Anatomy", cost: ModelCost, rates: Rates, plan: MemoryPlan | None) -> Mapping[str, object]:
    """Everything that was found, in seconds and bytes."""
    measured = {name: value for name, value in asdict(anatomy).items() if name not in {"job", "facts"}}
    return {
        "experiment": anatomy.job.name,
        "runtime": anatomy.job.runtime.model_dump(mode="json"),
        **measured,
        "targets_per_s": anatomy.targets_per_s,
        "share_of_limit": share_of_limit(anatomy, cost, rates),
        "rates": asdict(rates),
        "model": asdict(cost),
        "planned_bytes": None if plan is None else asdict(plan) | {"device": plan.device, "total": plan.total},
    }


def lines(anatomy: "Anatomy", cost: ModelCost, rates: Rates, plan: MemoryPlan | None) -> Iterator[str]:
    """The same as a table with bars."""
    job, runtime = anatomy.job, anatomy.job.runtime
    how = [str(runtime.dtype), f"{runtime.attention} attention", *(["compiled"] if runtime.compile is True else [])]
    if runtime.device == "cpu":
        how.insert(1, plural(int(runtime.threads), "thread"))
    active = "" if cost.active_parameters is None else f", {count(cost.active_parameters)} of them for any one token,"
    yield f"{job.name}: {count(cost.parameters)} parameters{active} on {runtime.device} ({', '.join(how)})"
    yield ""
    yield f"speed   {count(anatomy.targets_per_s)} {anatomy.unit}s/s: {_time(anatomy.step_s)} for a step of {anatomy.targets:,.0f}"
    yield f"        (median of {anatomy.steps}; the first took {_time(anatomy.first_step_s)})"
    limit = rates.flops_per_s(runtime.dtype)
    yield (
        f"limit   {share_of_limit(anatomy, cost, rates):.0%} of {count(limit)}FLOP/s, what large matrix products reach here; "
        f"{'an' if anatomy.unit[0] in 'aeiou' else 'a'} {anatomy.unit} takes {count(cost.flops_per_token)}FLOP"
    )
    if not rates.undisturbed:
        yield "        (other programs ran while the limit was measured: the machine can do more)"
    held = "unknown here" if anatomy.peak_bytes is None else f"{_size(anatomy.peak_bytes)} at most"
    yield f"memory  {held}; {_plan(plan, job.model.kind_name)}"
    if job.train.max_steps is not None:
        seconds = job.train.max_steps * anatomy.step_s
        yield f"run     {duration(seconds)} for {plural(job.train.max_steps, 'step')}, evaluations and checkpoints aside"
    for title, shares in (("the parts of a step", anatomy.parts), ("the work in them", anatomy.work)):
        yield ""
        yield from _bars(title, shares, anatomy.step_s)


def _plan(plan: MemoryPlan | None, kind: str) -> str:
    """The parts of the plan, the largest first."""
    if plan is None:
        return f"not planned for models of kind {kind}"
    parts = {name: size for name, size in asdict(plan).items() if size and name != "snapshot"}
    words = (f"{name} {_size(parts[name])}" for name in sorted(parts, key=parts.__getitem__, reverse=True))
    return f"planned {_size(plan.device)}: {', '.join(words)}"


def _bars(title: str, shares: Mapping[str, float], step_s: float) -> Iterator[str]:
    full = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    width = max(map(len, shares))
    yield f"{title}:"
    for name, seconds in shares.items():
        bar = full * round(BAR_WIDTH * seconds / step_s)
        yield f"  {name:<{width}} {seconds / step_s:>6.1%} {_time(seconds):>9}  {bar}".rstrip()


def _time(seconds: float) -> str:
    """Three figures with their unit."""
    units = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
    size, unit = next((row for row in units if seconds >= row[0]), units[-1])
    return f"{seconds / size:.3g} {unit}"


def _size(size_bytes: float) -> str:
    return f"{count(size_bytes)}B"
