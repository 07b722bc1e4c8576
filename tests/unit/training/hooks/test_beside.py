"""Watching never hurts: a hook may hang as long as it likes, and whoever trains does not wait."""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event as Signal
from threading import Timer
from threading import enumerate as all_threads
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.atomic import read_lines
from ml_playground.core.run_schema import Event
from ml_playground.core.values import NOTHING, Action, Progress, Wish
from ml_playground.training.hook_protocols import BaseHook, HookContext, StepEvent
from ml_playground.training.hooks.beside import MOST_CALLS, Beside, Patience
from ml_playground.training.hooks.tolerant import Tolerant
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.hooks import FailingHook, NonsenseHook, Told, event, hook_context, progress
from tests.fakes.no_threads import no_threads

SHORT = Patience(answer_s=5.0, state_s=0.05, end_s=0.1)
"""For hooks that never answer."""
LONG = Patience(answer_s=5.0, state_s=600.0, end_s=600.0)
"""For those that do, on a machine that may be elsewhere for seconds."""


class Listener(BaseHook):
    """Writes down what it hears; stands still at a gate where there is one."""

    def __init__(self, gate: Signal | None = None) -> None:
        self.heard: list[str] = []
        self.entered = Signal()
        self._gate = gate

    def on_start(self, progress: Progress) -> None:
        self.heard.append(f"start {progress.step}")

    def on_step(self, event: StepEvent) -> Wish:
        self.entered.set()
        if self._gate is not None:
            assert self._gate.wait(600)
        self.heard.append(f"step {event.progress.step}")
        return NOTHING

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        self.heard.append(f"evaluation {progress.step}")
        return NOTHING

    def on_saved(self, progress: Progress, reference: str) -> None:
        self.heard.append(f"saved {progress.step}")

    def on_end(self, progress: Progress, reason: Any, error: BaseException | None) -> None:
        self.heard.append(f"end {progress.step}")

    def state_dict(self) -> Mapping[str, Any]:
        return {"heard": len(self.heard)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.heard += ["before"] * state.get("heard", 0)


@pytest.fixture
def gate() -> Iterator[Signal]:
    """Closed; opened at the end of the test at the latest, so that no thread is left at it."""
    signal = Signal()
    yield signal
    signal.set()


def notes_of(context: HookContext) -> list[Event]:
    """What was written down about hooks."""
    events = [Event.model_validate_json(line) for line in read_lines(context.run.events)]
    return [event for event in events if event.kind.startswith("hook_")]


def clock_of(context: HookContext) -> FixedClock:
    """The clock of a test's context."""
    assert isinstance(context.clock, FixedClock)
    return context.clock


CALLS = st.lists(st.sampled_from(["silent step", "step", "evaluation", "saved", "state"]), max_size=200)


@given(calls=CALLS, room=st.booleans())
def test_whatever_happens_is_heard_in_its_order_and_whole(calls: list[str], room: bool) -> None:
    """As on the training thread, and a save sees what it remembers at that very point; also where no thread can be had."""
    with TemporaryDirectory() as folder, nullcontext() if room else no_threads():
        hook = Listener()
        beside = Beside(hook, "listener", hook_context(Path(folder)), Told(), LONG)
        beside.load_state_dict({"heard": 2})
        beside.on_start(progress(0))
        expected = ["before", "before", "start 0"]
        for step, call in enumerate(calls, start=1):
            if call.endswith("step"):
                assert beside.on_step(event(step, [2.0] if call == "step" else [])) == NOTHING
            elif call == "evaluation":
                beside.on_evaluation(progress(step), {"loss": 1.0})
            elif call == "saved":
                beside.on_saved(progress(step), "reference")
            else:
                assert beside.state_dict() == {"heard": len(expected)}
                continue
            expected.append(f"{call.removeprefix('silent ')} {step}")
        beside.on_end(progress(99), "completed", None)
        assert hook.heard == [*expected, "end 99"]
        assert beside.dropped == 0


def test_hook_without_a_thread_is_told_all_the_same(tmp_path: Path) -> None:
    """Its user hears once that training waits for it; with room again it is told beside."""
    hook, told, context = Listener(), Told(), hook_context(tmp_path)
    beside = Beside(hook, "listener", context, told, LONG)
    with no_threads():
        beside.on_start(progress(0))
        beside.on_step(event(1, [2.0]))
        assert hook.heard == ["start 0", "step 1"]
    beside.on_step(event(2, [2.0]))
    beside.on_end(progress(2), "completed", None)
    assert hook.heard == ["start 0", "step 1", "step 2", "end 2"]
    assert [note.kind for note in notes_of(context)] == ["hook_waited_for"]
    assert told == ["hook 'listener' is waited for, because the machine has no room for another thread"]


def test_hook_that_exits_without_a_thread_of_its_own_does_not_end_the_run(tmp_path: Path) -> None:
    """As with one: it is told nothing more, and its user hears of it."""

    class Exiting(Listener):
        def on_step(self, event: StepEvent) -> Wish:
            sys.exit()

    hook, told = Exiting(), Told()
    beside = Beside(hook, "exiting", hook_context(tmp_path), told, LONG)
    with no_threads():
        beside.on_start(progress(0))
        beside.on_step(event(1, [2.0]))
        beside.on_step(event(2, [2.0]))
        beside.on_end(progress(2), "completed", None)
    assert hook.heard == ["start 0"]
    assert told[1:] == ["hook 'exiting' has ended its thread in on_step and is told nothing more"]


def test_hook_that_hangs_costs_nothing_is_said_once_and_counted(tmp_path: Path, gate: Signal) -> None:
    """Ten thousand steps go by; the oldest calls are dropped, the newest are heard when it answers again."""
    context, told, hook = hook_context(tmp_path), Told(), Listener(gate)
    beside = Beside(hook, "slow", context, told, LONG)
    beside.on_start(progress(0))
    beside.on_step(event(1, [2.0]))
    assert hook.entered.wait(600)
    for step in range(2, 10_002):
        clock_of(context).advance(0.01)
        beside.on_step(event(step, [2.0]))
    assert told == ["hook 'slow' has not answered in on_step for 5 s, training goes on"]
    assert beside.dropped == 10_000 - MOST_CALLS
    gate.set()
    while len(hook.heard) < 2 + MOST_CALLS:
        time.sleep(0.001)
    beside.on_end(progress(10_001), "completed", None)
    assert hook.heard[:3] == ["start 0", "step 1", f"step {10_002 - MOST_CALLS}"]
    assert hook.heard[-2:] == ["step 10001", "end 10001"]
    assert told[1:] == ["hook 'slow' answers again (9000 calls dropped)"]
    assert [(note.kind, note.data["hook"], note.data["dropped"]) for note in notes_of(context)] == [
        ("hook_hangs", "slow", 0),
        ("hook_answers", "slow", 9000),
    ]
    assert notes_of(context)[0].data["method"] == "on_step"
    assert notes_of(context)[1].data["seconds"] > 5


def step_after_an_hour(beside: Beside, hook: Listener, context: HookContext, gate: Signal) -> None:
    """The clock goes on while the hook is in step 1; step 2 comes, and a moment later the hook may go on."""
    assert hook.entered.wait(600)
    clock_of(context).advance(3600)
    opening = Timer(0.01, gate.set)
    opening.start()
    beside.on_step(event(2, [2.0]))
    opening.join()


def test_hook_that_answers_in_a_moment_is_not_said_to_hang_by_the_clock(tmp_path: Path, gate: Signal) -> None:
    """A laptop that slept for an hour stopped it as well."""
    context, told, hook = hook_context(tmp_path), Told(), Listener(gate)
    beside = Beside(hook, "quick", context, told, LONG._replace(moment_s=600.0))
    beside.on_start(progress(0))
    beside.on_step(event(1, [2.0]))
    step_after_an_hour(beside, hook, context, gate)
    beside.on_end(progress(2), "completed", None)
    assert told == []


def test_hook_that_leaves_in_a_moment_is_not_said_to_hang(tmp_path: Path, gate: Signal) -> None:
    """It will never answer, and that is what is said."""

    class Leaver(Listener):
        def on_step(self, event: StepEvent) -> Wish:
            super().on_step(event)
            sys.exit()

    context, told, hook = hook_context(tmp_path), Told(), Leaver(gate)
    beside = Beside(hook, "x", context, told, LONG._replace(moment_s=600.0))
    beside.on_step(event(1, [2.0]))
    step_after_an_hour(beside, hook, context, gate)
    assert told == ["hook 'x' has ended its thread in on_step and is told nothing more"]


def test_state_dict_of_a_hook_that_hangs_is_the_one_before_and_not_waited_for_again(
    tmp_path: Path, gate: Signal
) -> None:
    """A checkpoint must not wait for a dashboard, least of all each time."""
    context, hook = hook_context(tmp_path), Listener(gate)
    beside = Beside(hook, "slow", context, Told(), SHORT)
    beside.load_state_dict({"heard": 1})
    beside.on_start(progress(0))
    beside.on_step(event(1, [2.0]))
    assert hook.entered.wait(600)
    assert [beside.state_dict() for _ in range(100)] == [{"heard": 1}] * 100
    assert [note.kind for note in notes_of(context)] == ["hook_hangs"]
    gate.set()
    beside.on_end(progress(1), "completed", None)


def test_on_end_hook_that_hangs_is_left_behind(tmp_path: Path, gate: Signal) -> None:
    """The end of a run waits for it, but not for ever."""
    context, told, hook = hook_context(tmp_path), Told(), Listener(gate)
    beside = Beside(hook, "slow", context, told, SHORT)
    beside.on_start(progress(0))
    beside.on_step(event(1, [2.0]))
    beside.on_end(progress(1), "completed", None)
    assert told == ["hook 'slow' has not come to its end within 0.1 s and is left behind"]
    assert [note.kind for note in notes_of(context)] == ["hook_left_behind"]


def test_wish_of_a_hook_beside_is_refused_aloud(tmp_path: Path) -> None:
    """By the time it is known the step is long over: neither obeyed late nor lost in silence."""
    context, told = hook_context(tmp_path), Told()
    beside = Beside(Tolerant(NonsenseHook(Wish(Action.SAVE)), "eager", context, told), "eager", context, told, LONG)
    assert beside.on_step(event(1, [2.0])) == NOTHING
    assert beside.on_evaluation(progress(1), {}) == NOTHING
    beside.on_end(progress(1), "completed", None)
    (line,) = told
    assert line.startswith("hook 'eager' wished for Wish(action=<Action.SAVE")
    assert line.endswith("but it is told beside the training and cannot wish; let its class say inline = True")
    assert {note.kind for note in notes_of(context)} == {"hook_wish_refused"}


def test_hook_that_leaves_its_thread_is_said_and_not_waited_for(tmp_path: Path) -> None:
    """A library that calls sys.exit() ends its own thread, no more."""

    class Leaving(BaseHook):
        def on_step(self, event: StepEvent) -> Wish:
            sys.exit("no such dashboard")

    context, told = hook_context(tmp_path), Told()
    beside = Beside(Tolerant(Leaving(), "odd", context, told), "odd", context, told, LONG)
    beside.on_step(event(1, [2.0]))
    [thread.join(600) for thread in all_threads() if thread.name == "hook odd"]
    for step in range(2, 5):
        assert beside.on_step(event(step, [2.0])) == NOTHING
    assert beside.state_dict() == {}
    beside.on_end(progress(4), "completed", None)
    assert told == ["hook 'odd' has ended its thread in on_step and is told nothing more"]


@pytest.mark.parametrize("method", ["on_end", "state_dict", "on_step"])
@pytest.mark.parametrize("asks", [True, False])
def test_hook_that_leaves_while_it_is_waited_for_is_said_at_once(tmp_path: Path, method: str, asks: bool) -> None:
    """Nothing of five seconds at the end of every run, and nothing of a state that is none; a step lasts until training waits."""

    class Leaver(Listener):
        def on_step(self, event: StepEvent) -> Wish:
            sys.exit(time.sleep(0.2))

        def on_end(self, progress: Progress, reason: Any, error: BaseException | None) -> None:
            sys.exit()

        def state_dict(self) -> Mapping[str, Any]:
            return {"heard": 1} if method == "on_end" else sys.exit()

    context, told = hook_context(tmp_path), Told()
    beside = Beside(Tolerant(Leaver(), "x", context, told), "x", context, told, LONG)
    beside.load_state_dict({"heard": 1})
    beside.on_step(event(1, [2.0])) if method == "on_step" else beside.on_start(progress(0))
    assert not (asks or method == "state_dict") or beside.state_dict() == {"heard": 1}
    beside.on_end(progress(0), "completed", None)
    assert told == [f"hook 'x' has ended its thread in {method} and is told nothing more"]


def test_hook_that_leaves_while_the_end_is_asked_for_is_said_wherever_either_thread_loses_the_processor(
    tmp_path: Path,
) -> None:
    """Training loses it once the end is asked for, until the hook has left; the hook's thread loses it at each return after that."""

    class Leaver(Listener):
        def on_end(self, progress: Progress, reason: Any, error: BaseException | None) -> None:
            sys.exit()

    context, told = hook_context(tmp_path), Told()
    beside = Beside(Leaver(), "x", context, told, LONG)

    def hook_loses_it(_frame: FrameType, event: str, _: object) -> None:
        if event == "return" and beside._left:
            time.sleep(0.05)

    def training_loses_it(frame: FrameType, event: str, _: object) -> None:
        while event == "return" and frame.f_code is Beside._look_after.__code__ and not beside._left:
            time.sleep(0.001)

    threading.setprofile(hook_loses_it)
    try:
        beside.on_start(progress(0))
        sys.setprofile(training_loses_it)
        beside.on_end(progress(0), "completed", None)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert told == ["hook 'x' has ended its thread in on_end and is told nothing more"]


def test_hook_that_fails_beside_is_counted_as_on_the_training_thread(tmp_path: Path) -> None:
    """Off after three failures in a row."""
    context, told, hook = hook_context(tmp_path), Told(), FailingHook()
    beside = Beside(Tolerant(hook, "dashboard", context, told), "dashboard", context, told, LONG)
    for step in range(1, 10):
        beside.on_step(event(step, [2.0]))
    beside.on_end(progress(9), "completed", None)
    assert hook.steps == 3
    assert told[-1] == "hook 'dashboard' is switched off after 3 failures in a row"


def test_hook_that_was_only_given_its_state_has_no_thread(tmp_path: Path) -> None:
    """A run whose parts cannot be built leaves none behind."""
    before = set(all_threads())
    Beside(Listener(), "quiet", hook_context(tmp_path), Told()).load_state_dict({"heard": 1})
    assert set(all_threads()) <= before


def test_end_of_a_run_leaves_no_thread_behind(tmp_path: Path) -> None:
    """Where the hook answers."""
    before = set(all_threads())
    beside = Beside(Listener(), "quick", hook_context(tmp_path), Told(), LONG)
    beside.on_start(progress(0))
    beside.on_end(progress(0), "completed", None)
    assert set(all_threads()) <= before
