"""Hooks that raise, hang and talk nonsense, and clocks that jump: the run goes on and ends with the same bits."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as Signal
from typing import Any

import pytest
import torch

from ml_playground.core.deps import Deps, SystemClock
from ml_playground.core.run_folder import runs_folder
from ml_playground.core.values import NOTHING, Action, Progress, Wish
from ml_playground.training.engine import run_job
from ml_playground.training.hook_protocols import BaseHook, StepEvent
from ml_playground.training.hooks.beside import Beside, Patience
from ml_playground.training.hooks.tolerant import Tolerant
from ml_playground.training.resume import Choice
from tests.fakes.hooks import FailingHook, NonsenseHook, Told, hook_context
from tests.fakes.loop_bench import Bench, Scribe
from tests.faults.conftest import Tried
from tests.faults.forking import faults_of_a_resumed, rows_of
from tests.faults.training import STEPS, disturbed, kinds_of, place_of, prepared_job, train

SHORT = Patience(answer_s=0.05, state_s=0.05, end_s=0.1)
"""For a hook that never answers."""
LONG = Patience(answer_s=0.05, state_s=60.0, end_s=60.0)
"""For those that do, on a machine that may be elsewhere for seconds."""


class Hanging(BaseHook):
    """Stands still in its third step."""

    def __init__(self, stand_still: Callable[[], object]) -> None:
        self._stand_still = stand_still

    def on_step(self, event: StepEvent) -> Wish:
        if event.progress.step == 3:
            self._stand_still()
        return NOTHING


class Eager(BaseHook):
    """Wants the run to end with its sixth step."""

    def on_step(self, event: StepEvent) -> Wish:
        return Wish(Action.FINISH) if event.progress.step == 6 else NOTHING


class Leaving(BaseHook):
    """Wants the program to end."""

    def on_step(self, event: StepEvent) -> Wish:
        sys.exit("no such dashboard")


@pytest.fixture
def gate() -> Iterator[Signal]:
    """Closed until the test ends."""
    signal = Signal()
    yield signal
    signal.set()


def unwatched() -> dict[str, torch.Tensor]:
    """The weights of a run that nobody watches."""
    bench = Bench()
    bench.fit(max_steps=30)
    return bench.weights()


def test_watching_hooks_that_misbehave_in_every_way_change_no_bit(tmp_path: Path, gate: Signal, tried: Tried) -> None:
    """All of them at once, in both ways of watching."""
    context, told = hook_context(tmp_path), Told()
    odd: dict[str, BaseHook] = {
        "fails": FailingHook(),
        "nothing": NonsenseHook(None),
        "text": NonsenseHook("stop"),
        "no number": NonsenseHook(Wish(lr_factor=float("nan"))),
    }
    bench = Bench()
    hooks: dict[str, Any] = {name: Tolerant(hook, name, context, told) for name, hook in odd.items()}
    for name, hook in (odd | {"hangs": Hanging(lambda: gate.wait(60)), "leaves": Leaving()}).items():
        patience = SHORT if name == "hangs" else LONG
        hooks[f"{name} beside"] = Beside(Tolerant(hook, name, context, told), name, context, told, patience)
    bench.more_hooks = hooks
    assert bench.fit(max_steps=30).reason == "completed"
    assert all(map(torch.equal, bench.weights().values(), unwatched().values()))
    assert {"hook_failed", "hook_left_behind", "hook_left"} <= set(kinds_of(context.run))
    tried("watching hooks that raise, hang, leave or talk nonsense", len(hooks))


def test_wish_of_a_watching_hook_on_the_training_thread_is_obeyed_beside_it_is_refused(tmp_path: Path) -> None:
    """One hook, both ways: what is sound is not lost, and what comes too late is not obeyed."""
    context, told = hook_context(tmp_path), Told()
    inline, beside = Bench(), Bench()
    inline.more_hooks = {"x": Tolerant(Eager(), "x", context, told)}  # pyright: ignore[reportAttributeAccessIssue]
    assert inline.fit(max_steps=30).reason == "stopped_early"
    assert told == []
    beside.more_hooks = {"x": Beside(Tolerant(Eager(), "x", context, told), "x", context, told, LONG)}  # pyright: ignore[reportAttributeAccessIssue]
    assert beside.fit(max_steps=30).reason == "completed"
    assert "cannot wish" in told[0]


def test_steering_hook_that_raises_ends_the_run_with_the_reason() -> None:
    """The run depends on it: going on without it would be another run."""

    class Guard(Scribe):
        steering = True

        def on_step(self, event: StepEvent) -> Wish:
            if event.progress.step == 6:
                raise ValueError("the guard has lost its file")
            return NOTHING

    bench = Bench(scribe=Guard())
    with pytest.raises(ValueError, match="the guard has lost its file"):
        bench.fit()
    assert bench.scribe.told[-1] == "end 6 None ValueError"
    assert [saved.step for saved in bench.store.list()] == [4]


@pytest.mark.long
def test_watching_hook_that_hangs_for_thirty_seconds_costs_six(tmp_path: Path, tried: Tried) -> None:
    """As it is shipped: a second for its state, five for its end; the training itself does not wait."""
    context, told = hook_context(tmp_path, clock=SystemClock()), Told()
    bench = Bench()
    beside = Beside(Tolerant(Hanging(lambda: time.sleep(30)), "slow", context, told), "slow", context, told)
    bench.more_hooks = {"slow": beside}  # pyright: ignore[reportAttributeAccessIssue]
    began_s = time.monotonic()
    assert bench.fit(max_steps=200).reason == "completed"
    assert 5 < time.monotonic() - began_s < 10
    assert told[-1] == "hook 'slow' has not come to its end within 5 s and is left behind"
    tried("watching hook that hangs for 30 s")


class JumpingClock:
    """Its time of day jumps by years, forwards and backwards; its counter goes on, as counters do, with each question or each step."""

    def __init__(self, *jumps: timedelta, tick_s: float = 0.5) -> None:
        self._now = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
        self._jumps = jumps
        self._asked = 0
        self._ticks = 0.0
        self._tick_s = tick_s

    def now(self) -> datetime:
        """Somewhere in time."""
        self._now += self._jumps[self._asked % len(self._jumps)]
        self._asked += 1
        return self._now

    def tick(self) -> float:
        """Some time has passed."""
        self._ticks += self._tick_s
        return self._ticks

    def step(self) -> bool:
        """Half a minute has passed; nobody asked to stop."""
        self._ticks += 30.0
        return False


YEAR = timedelta(days=365)
JUMPS = {
    "stands still": (timedelta(),),
    "forwards": (YEAR,),
    "backwards": (-YEAR,),
    "to and fro": (YEAR, -2 * YEAR, YEAR),
}


@pytest.mark.parametrize("name", JUMPS)
def test_time_of_day_that_jumps_changes_neither_saves_nor_the_end(name: str, tmp_path: Path, tried: Tried) -> None:
    """Daylight saving, a laptop that slept, a clock set by hand: what is due by time goes by the counter."""
    sections: dict[str, Any] = {
        "checkpointing": {"every_steps": None, "every_minutes": 0.5, "keep_last": 9},
        "hooks": {
            "budget": {"kind": "time_budget", "minutes": 5.0},
            "status": {"kind": "status", "every_seconds": 5.0},
        },
    }
    job = prepared_job(tmp_path, **sections)
    # How often the clock is asked depends on when a save comes to its end; how many steps are made does not.
    steady, jumping = (JumpingClock(*jumps, tick_s=0.0) for jumps in (JUMPS["stands still"], JUMPS[name]))
    train(job, "steady", Deps(clock=steady, stop_requested=steady.step))
    result = train(job, "jumping", Deps(clock=jumping, stop_requested=jumping.step))
    run = place_of(job, "jumping")
    assert result.reason in ("completed", "stopped_early")
    assert rows_of(run) == rows_of(place_of(job, "steady"))
    saved = [path.name for path in sorted(run.checkpoints.iterdir())]
    assert saved == [path.name for path in sorted(place_of(job, "steady").checkpoints.iterdir())]
    assert len(saved) >= 2
    tried("clock that jumps")


def test_clock_that_was_set_back_the_next_start_goes_on_with_the_run_begun_last(tmp_path: Path, tried: Tried) -> None:
    """Run ids sort by time, and time went backwards between two starts."""
    job = prepared_job(tmp_path)
    late, early = JumpingClock(YEAR), JumpingClock(-YEAR)
    first = run_job(job, disturbed({}, Deps(clock=late), stop_after=3), Choice("new"))
    second = run_job(job, disturbed({}, Deps(clock=early), stop_after=4), Choice("new"))
    assert second.run.name > first.run.name
    third = run_job(job, Deps(clock=early))
    assert (third.run, third.step) == (second.run, STEPS)
    assert len(list((runs_folder() / job.name).iterdir())) == 2
    tried("clock that jumps")


@pytest.mark.parametrize("steps", [(4, 5, 11), pytest.param(range(1, STEPS), marks=pytest.mark.long)])
def test_run_stopped_behind_a_step_ends_with_the_same_bits(steps: Iterable[int], tmp_path: Path, tried: Tried) -> None:
    """A pause at each boundary in turn: an evaluation, a sample, the last but one."""
    job = prepared_job(tmp_path)
    train(job, "whole")
    for step in steps:
        name = f"paused-{step}"
        paused = train(job, name, disturbed({}, stop_after=step))
        assert (paused.reason, paused.step) == ("paused", step)
        assert train(job, name).reason == "completed"
        assert faults_of_a_resumed(place_of(job, name), place_of(job, "whole"), saved_more=True) == []
        tried("pause behind a step")


def test_on_end_of_a_hook_is_told_whatever_the_one_before_it_does(tmp_path: Path) -> None:
    """A hook that fails at the end must not keep the others from closing their files."""
    ended: list[str] = []

    class Last(BaseHook):
        def on_end(self, progress: Progress, reason: Any, error: BaseException | None) -> None:
            ended.append(str(reason))

        def state_dict(self) -> Mapping[str, Any]:
            return {}

    bench = Bench()
    context = hook_context(tmp_path)
    hooks: dict[str, Any] = {"last": Last(), "fails": Tolerant(FailingHook(), "fails", context, Told())}
    bench.more_hooks = hooks
    bench.fit(max_steps=3)
    assert ended == ["completed"]
