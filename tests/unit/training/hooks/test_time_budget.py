"""A run uses its time, whatever the machine does; and what the clock decided is decided again the same on resume."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core.atomic import read_lines
from ml_playground.core.deps import Deps
from ml_playground.core.run_schema import Event
from ml_playground.core.values import Action, Wish
from ml_playground.training.guard import Guard
from ml_playground.training.hook_protocols import HookContext, StepEvent
from ml_playground.training.hooks.journal import EventJournal
from ml_playground.training.hooks.time_budget import LEVELS, build, factor_at
from ml_playground.training.learner import GradientLearner
from ml_playground.training.loop import Parts, fit
from ml_playground.training.memory import Room
from ml_playground.training.optim import adamw
from ml_playground.training.protocols import StepNumbers
from ml_playground.training.settings import AdamW, TimeBudget
from ml_playground.training.stretch import Ending, Start
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.hooks import Told, hook_context, progress
from tests.fakes.memory_store import KeptSnapshot, MemoryStore
from tests.fakes.toy_task import ToyData, ToyModel, ToyObjective

SECONDS = 10.0
EVERY_TEN = CheckpointingSettings(every_steps=10, keep_last=1000)
STEP_SECONDS = st.lists(st.floats(0.01, 0.2), min_size=1, max_size=8)


class Slow(GradientLearner):
    """Its steps and evaluations take as long as they are told, in turn."""

    def __init__(self, clock: FixedClock, step_s: Sequence[float], evaluation_s: float = 0.0) -> None:
        torch.manual_seed(1)
        model = ToyModel()
        super().__init__(model, ToyObjective(), adamw.build(AdamW(), model, torch.float32), seed=1)
        self._clock, self._durations, self._evaluation_s = clock, step_s, evaluation_s
        self.factors: list[float] = []

    def train_step(self, batches: Sequence[Any], *, step: int, lr_factor: float) -> StepNumbers:
        self._clock.advance(self._durations[step % len(self._durations)])
        self.factors.append(lr_factor)
        return super().train_step(batches, step=step, lr_factor=lr_factor)

    def evaluate(self, batches: Iterable[Any]) -> Mapping[str, float]:
        self._clock.advance(self._evaluation_s)
        return super().evaluate(batches)

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.state_dict()["model"].items()}


def run(
    context: HookContext, learner: Slow, clock: FixedClock, store: MemoryStore, former: KeptSnapshot | None = None
) -> Ending:
    """Train under a budget of `SECONDS`."""
    hook = build(TimeBudget(train_seconds=SECONDS), replace(context, clock=clock))
    start = Start()
    if former is not None:
        hook.load_state_dict(former.hooks["time_budget"])
        learner.load_state_dict(former.tensors())
        start = Start(former.progress.step, elapsed_s=former.progress.elapsed_s, lr_factor=former.lr_factor)
    guard, journal, told = Guard(context.job.train, ""), EventJournal(context.run, clock), Told()
    parts = Parts(
        learner=learner,
        data=ToyData(),
        store=store,
        hooks={"time_budget": hook},
        journal=journal,
        guard=guard,
        room=Room(context.job, guard, journal, told),
        schedule=lambda step: 1.0,
        deps=Deps(clock=clock),
        train=context.job.train,
        checkpointing=EVERY_TEN,
        max_steps=100_000,
        config="{}",
        tell=told,
    )
    ended = fit(parts, start)
    assert isinstance(ended, Ending)
    return ended


@given(step_s=STEP_SECONDS, evaluation_s=st.floats(0, 0.5))
@settings(max_examples=25, deadline=None)
def test_run_ends_in_time_whatever_its_steps_take(
    tmp_path_factory: pytest.TempPathFactory, step_s: list[float], evaluation_s: float
) -> None:
    """Two steps too late at most; too early by an evaluation at most, where another one would not fit before the end."""
    clock = FixedClock()
    learner = Slow(clock, step_s, evaluation_s)
    context = hook_context(tmp_path_factory.mktemp("run"))
    ending = run(context, learner, clock, MemoryStore())
    assert ending.reason == "stopped_early"
    events = [Event.model_validate_json(line) for line in read_lines(context.run.events)]
    assert [event.data["used"] for event in events if event.kind == "budget"] == [True]
    tolerance_s = 2 * max(step_s)
    assert SECONDS - evaluation_s - tolerance_s <= clock.tick() <= SECONDS + tolerance_s


@given(step_s=STEP_SECONDS)
@settings(max_examples=25, deadline=None)
def test_factor_only_falls_to_zero_in_few_changes(
    tmp_path_factory: pytest.TempPathFactory, step_s: list[float]
) -> None:
    """Each change is a line of events.jsonl; the last step is made at next to nothing, the last level or zero."""
    clock = FixedClock()
    learner = Slow(clock, step_s)
    run(hook_context(tmp_path_factory.mktemp("run")), learner, clock, MemoryStore())
    assert learner.factors == sorted(learner.factors, reverse=True)
    assert learner.factors[0] == 1.0
    assert learner.factors[-1] <= 0.25
    assert len(set(learner.factors)) <= LEVELS + 1


@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("step", [10, 50, 120])
def test_resumed_run_repeats_what_was_recorded_to_the_same_bits(tmp_path: Path, step: int, slower: float) -> None:
    """Killed after its end was recorded and begun again from an earlier checkpoint, by a machine of another speed."""
    clock, store, context = FixedClock(), MemoryStore(EVERY_TEN), hook_context(tmp_path)
    whole = Slow(clock, [0.07, 0.05])
    ending = run(context, whole, clock, store)
    again_clock = FixedClock()
    again = Slow(again_clock, [0.07 * slower])
    assert run(context, again, again_clock, MemoryStore(), store.open(step)).step == ending.step
    assert again.factors == whole.factors[step:]
    torch.testing.assert_close(again.weights(), whole.weights(), rtol=0, atol=0)


def test_resumed_run_has_only_the_rest_of_the_time(tmp_path: Path) -> None:
    """Seven of ten seconds are gone: three are left, and the rate goes on from where it was."""
    clock = FixedClock()
    hook = build(TimeBudget(train_seconds=SECONDS), hook_context(tmp_path, clock=clock, first_step=70))
    hook.load_state_dict({"factor": 0.5, "loss": 2.0, "step_s": 0.1, "evaluation_s": 0.0, "save_s": 0.0})
    wishes = [hook.on_step(StepEvent(replace(progress(step), elapsed_s=0.1 * step))) for step in range(71, 100)]
    assert wishes[0].lr_factor == factor_at(0.71, 0.85)
    assert wishes[28] == Wish(Action.FINISH | Action.EVALUATE, lr_factor=0.0)


@pytest.mark.parametrize(
    ("share", "fraction", "factor"),
    [(0.0, 1.0, 1.0), (0.5, 0.5, 1.0), (0.75, 0.5, 0.5), (1.2, 0.5, 1 / LEVELS), (2, 0, 1)],
)
def test_factor_is_flat_then_a_line(share: float, fraction: float, factor: float) -> None:
    """Zero itself is kept for the end; without a decay the rate stays."""
    assert factor_at(share, fraction) == factor


def test_end_notes_what_was_foreseen_and_what_came(tmp_path: Path) -> None:
    """The run's record says how good the forecast was, and whether it was the clock that ended the run: here another rule did."""
    clock = FixedClock()
    context = hook_context(tmp_path, clock=clock)
    hook = build(TimeBudget(minutes=3, expected_loss=1.6, expected_low=1.5, expected_high=1.7), context)
    hook.on_evaluation(progress(60), {"loss": 1.58})
    hook.on_end(progress(60), "stopped_early", None)
    (event,) = [Event.model_validate_json(line) for line in read_lines(context.run.events)]
    assert (event.kind, event.step) == ("budget", 60)
    assert event.data == {
        "minutes": 3.0,
        "used": False,
        "train_seconds": 30.0,
        "loss": 1.58,
        "expected": 1.6,
        "low": 1.5,
        "high": 1.7,
        "error": -0.02,
    }


def test_end_by_a_pause_notes_nothing(tmp_path: Path) -> None:
    """The run goes on: there is no verdict yet."""
    context = hook_context(tmp_path)
    hook = build(TimeBudget(), context)
    hook.on_end(progress(60), "paused", None)
    assert not context.run.events.exists()


def test_board_foresees_the_last_step(tmp_path: Path) -> None:
    """Whoever looks at the run sees its end, not the most steps it may make."""
    context = hook_context(tmp_path)
    hook = build(TimeBudget(train_seconds=40.0), context)
    for step in (1, 2, 3):
        hook.on_step(StepEvent(progress(step)))
    assert context.board.foreseen_steps == pytest.approx(80, abs=2)


@pytest.mark.parametrize("owing", [False, True])
def test_evaluation_that_is_owed_is_timed_and_nothing_else_of_its_process(tmp_path: Path, owing: bool) -> None:
    """The end needs its time; the first step of a process tells neither of a step nor of a save."""
    context = replace(hook_context(tmp_path), first_step=4, owes_evaluation=owing)
    hook = build(TimeBudget(train_seconds=1000.0), context)
    at = [
        replace(progress(step), elapsed_s=second) for step, second in ((4, 100.0), (4, 107.0), (5, 140.0), (6, 142.0))
    ]
    hook.on_start(at[0])
    if owing:
        hook.on_evaluation(at[1], {"loss": 2.0})
    hook.on_step(StepEvent(at[2]))
    hook.on_step(StepEvent(at[3]))
    learnt = {name: hook.state_dict()[name] for name in ("evaluation_s", "save_s", "step_s")}
    assert learnt == {"evaluation_s": 7.0 if owing else 0.0, "save_s": 0.0, "step_s": 2.0}


@pytest.mark.parametrize(("minutes", "words"), [(1.0, "used its 1 minute"), (0.5, "used its 0.5 minutes")])
def test_end_by_the_clock_is_told_to_all_hooks(tmp_path: Path, minutes: float, words: str) -> None:
    """Console, status and report say one thing of it: the time was used, nothing was stopped early."""
    context = hook_context(tmp_path)
    assert context.board.early_end == "stopped early"
    hook = build(TimeBudget(minutes=minutes, train_seconds=1.0), context)
    assert [hook.on_step(StepEvent(progress(step))).action for step in (1, 3)] == [
        Action.NONE,
        Action.FINISH | Action.EVALUATE,
    ]
    assert context.board.early_end == words
