"""What watching costs: training the tiny model with console, metrics, status, control and samples against without any hook.

Every call of a hook is timed, which shows a thousandth of a step, and those beside the training by the processor time of their threads too;
runs with and without hooks in turn show what that misses, as far as the noise of the machine lets them.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from our_training import job_of, random_text
from shapes import TINY
from tables import Row, Table, command_line, progress, publish

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import Reason
from ml_playground.core.values import Progress, Wish
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.objectives.next_token import build as build_objective
from ml_playground.training.building import build_learner, build_model, build_preview, open_data
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from ml_playground.training.guard import Guard, cut_of
from ml_playground.training.hook_protocols import Hook, HookContext, StepEvent
from ml_playground.training.hooks.beside import Beside
from ml_playground.training.hooks.journal import EventJournal
from ml_playground.training.hooks.tolerant import Tolerant
from ml_playground.training.loop import Parts, fit
from ml_playground.training.memory import Room
from ml_playground.training.stretch import Start


class Timed:
    """A hook, and the seconds that its calls take."""

    steering = False
    inline = True

    def __init__(self, hook: Hook, clock: Callable[[], float] = time.perf_counter) -> None:
        self._hook = hook
        self._now = clock
        self.seconds = 0.0

    def on_start(self, progress: Progress) -> None:
        """Pass on."""
        with self._clock():
            self._hook.on_start(progress)

    def on_step(self, event: StepEvent) -> Wish:
        """Pass on."""
        with self._clock():
            return self._hook.on_step(event)

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """Pass on."""
        with self._clock():
            return self._hook.on_evaluation(progress, metrics)

    def on_saved(self, progress: Progress, reference: str) -> None:
        """Pass on."""
        with self._clock():
            self._hook.on_saved(progress, reference)

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """Pass on."""
        with self._clock():
            self._hook.on_end(progress, reason, error)

    def state_dict(self) -> Mapping[str, Any]:
        """Pass on."""
        with self._clock():
            return self._hook.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Pass on."""
        self._hook.load_state_dict(state)

    @contextlib.contextmanager
    def _clock(self) -> Iterator[None]:
        began_s = self._now()
        yield
        self.seconds += self._now() - began_s


def timed_hooks(job: JobConfig, context: HookContext) -> tuple[dict[str, Timed], dict[str, Timed]]:
    """The hooks as training has them, timed on the training thread; and those beside it by the processor time of their own threads."""
    told: dict[str, Timed] = {}
    beside: dict[str, Timed] = {}
    for name, settings in job.hooks.items():
        built: Hook = load_object(families.HOOKS[settings.kind_name].build)(settings, context)
        hook = built if built.steering else Tolerant(built, name, context)
        if not (built.steering or built.inline):
            beside[f"{name}, on its thread"] = Timed(hook, time.thread_time)
            hook = Beside(beside[f"{name}, on its thread"], name, context)
        told[name] = Timed(hook)
    return told, beside


def trained(job: JobConfig, run: RunFolder, *, watched: bool) -> tuple[float, Mapping[str, float]]:
    """Seconds of a whole training, and those in each hook."""
    run.path.mkdir(parents=True)
    deps = Deps()
    torch.manual_seed(0)
    data = open_data(job)
    model = build_model(job, data.facts, torch.device("cpu"), load_pretrained=False)
    objective = build_objective(job.objective)
    learner = build_learner(job, model, objective)
    max_steps = job.train.max_steps or 0
    context = HookContext(
        job, run, deps.clock, objective.unit, max_steps, preview=build_preview(job, model, learner, data)
    )
    hooks, beside = timed_hooks(job, context) if watched else ({}, {})
    guard, journal = Guard(job.train, cut_of(job)), EventJournal(run, deps.clock)
    parts = Parts(
        learner=learner,
        data=data,
        store=DirectoryStore(run.checkpoints, job.checkpointing),
        hooks=hooks,
        journal=journal,
        guard=guard,
        room=Room(job, guard, journal, lambda line: None),
        schedule=lambda step: 1.0,
        deps=deps,
        train=job.train,
        checkpointing=job.checkpointing,
        max_steps=max_steps,
        config=job.model_dump_json(),
        tell=lambda line: None,
    )
    began_s = time.perf_counter()
    fit(parts, Start())
    return time.perf_counter() - began_s, {name: hook.seconds for name, hook in (hooks | beside).items()}


def cost(home: Path, steps: int, rounds: int) -> Table:
    """With and without hooks in turn."""
    text = home / "text.txt"
    random_text(TINY.vocabulary, text)
    job = job_of(TINY, text, steps=steps, sets=["runtime.device=cpu", "runtime.dtype=bfloat16"])
    prepare(job.prepare, Deps())
    in_hooks: dict[str, list[float]] = defaultdict(list)
    watched_s: list[float] = []
    bare_s: list[float] = []
    for number in range(rounds):
        for watched, kept in ((True, watched_s), (False, bare_s)):
            run = RunFolder(home / "runs" / "tiny" / f"{number}-{watched}")
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                whole_s, seconds = trained(job, run, watched=watched)
            kept.append(whole_s)
            for name, spent_s in seconds.items():
                in_hooks[name].append(spent_s)
        progress(f"round {number + 1} of {rounds}: {watched_s[-1]:.1f} s watched, {bare_s[-1]:.1f} s not")
    return as_table(in_hooks, watched_s, bare_s, steps)


def as_table(
    in_hooks: Mapping[str, Sequence[float]], watched_s: Sequence[float], bare_s: Sequence[float], steps: int
) -> Table:
    """Each hook, all of them, and the whole runs."""
    median = statistics.median
    whole_s = median(bare_s)
    rows = [Row([name, median(spent) / steps * 1e6, median(spent) / whole_s]) for name, spent in in_hooks.items()]
    all_s = sum(median(spent) for spent in in_hooks.values())
    rows.append(Row(["all hooks", all_s / steps * 1e6, all_s / whole_s], "monitoring", all_s / whole_s))
    ratio = median(watched / bare for watched, bare in zip(watched_s, bare_s, strict=True))
    rows.append(Row(["whole runs in turn", (ratio - 1) * whole_s / steps * 1e6, ratio - 1]))
    notes = [
        f"{steps} steps of {whole_s / steps * 1e3:.1f} ms, {torch.get_num_threads()} threads, medians of {len(bare_s)} in turn."
    ]
    return Table(
        "hook_cost", "What watching costs a step", ["hook", "microseconds a step", "share of a step"], rows, notes
    )


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """One table."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["MLP_HOME"] = home
        yield cost(Path(home), steps=500 if options.quick else 1000, rounds=1 if options.quick else 5)


if __name__ == "__main__":
    publish(tables, command_line(__doc__))
