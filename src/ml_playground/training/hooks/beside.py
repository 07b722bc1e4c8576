"""A watching hook on a thread of its own: it may hang, and the run goes on without it."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition, Event, Thread
from typing import Any, ClassVar, NamedTuple

from ml_playground.core.patience import came
from ml_playground.core.run_schema import Reason
from ml_playground.core.side_threads import started
from ml_playground.core.values import NOTHING, Progress, Wish
from ml_playground.training.hook_protocols import Hook, HookContext, StepEvent
from ml_playground.training.hooks.records import EventLog, Tell, tell_stderr

MOST_CALLS = 1000
"""Calls that wait for a hook; beyond it the oldest are dropped and counted."""
WAKE_CALLS = 64
"""Steps without readings wait until there are so many, for waking a thread costs more than what they say."""


class Patience(NamedTuple):
    """How long a hook is waited for, in seconds."""

    answer_s: float = 5.0
    """A call that takes longer is said to hang: slow networks answer sooner, and a user should hear of it before the run ends."""
    state_s: float = 1.0
    """A save waits so long for what the hook remembers; then the checkpoint holds what it remembered before."""
    end_s: float = 5.0
    """The end of a run waits so long for the hook."""
    moment_s: float = 0.1
    """Before a call is said to hang, training waits so long for it, once: the machine may have stood still, and both with it."""


_PATIENCE = Patience()


@dataclass(slots=True)
class _Call:
    method: str
    run: Callable[[], Any]
    ended: Event | None = None
    """Of a call whose end somebody waits for."""
    answer: Any = None
    began_s: float = 0.0


class Beside:
    """Hands on what happens, in its order, to a hook that only looks; the training never waits for it but for moments."""

    steering: ClassVar[bool] = False
    inline: ClassVar[bool] = True

    def __init__(
        self, hook: Hook, name: str, context: HookContext, tell: Tell = tell_stderr, patience: Patience = _PATIENCE
    ) -> None:
        """`hook` must survive its own errors (`Tolerant`)."""
        self._patience = patience
        self._hook = hook
        self._name = name
        self._clock = context.clock
        self._events = EventLog(context.run, context.clock, tell)
        self._tell = tell
        self._told: set[str] = set()
        self._calls: deque[_Call] = deque()
        self._ready = Condition()
        self._thread: Thread | None = None
        self._under_way: _Call | None = None
        self._hanging: _Call | None = None
        self._wished: Wish = NOTHING
        self._left = False
        self._dropped = 0
        self._step = 0
        self._state: Mapping[str, Any] = {}

    @property
    def dropped(self) -> int:
        """Calls that the hook never heard of, because it did not answer for so long."""
        return self._dropped

    def on_start(self, progress: Progress) -> None:
        """Hand on."""
        self._step = progress.step
        self._put("on_start", lambda: self._hook.on_start(progress))

    def on_step(self, event: StepEvent) -> Wish:
        """Hand on; what the hook wishes comes too late."""
        self._step = event.progress.step
        self._put("on_step", lambda: self._refuse(self._hook.on_step(event)), wake=bool(event.readings))
        return NOTHING

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """Hand on; what the hook wishes comes too late."""
        self._put("on_evaluation", lambda: self._refuse(self._hook.on_evaluation(progress, metrics)))
        return NOTHING

    def on_saved(self, progress: Progress, reference: str) -> None:
        """Hand on."""
        self._put("on_saved", lambda: self._hook.on_saved(progress, reference))

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """Hand on, and wait a while until the hook has heard everything."""
        self._step = progress.step
        ended = Event()
        self._put("on_end", lambda: self._hook.on_end(progress, reason, error), ended=ended)
        if came(ended.wait, self._patience.end_s):
            if self._thread is not None:
                self._thread.join()
            self._look_after()
        else:
            self._note("left_behind", f"has not come to its end within {self._patience.end_s:g} s and is left behind")

    def state_dict(self) -> Mapping[str, Any]:
        """What the hook remembers after all that it was told; what it remembered before, where it does not answer."""
        ended = Event()
        call = self._put("state_dict", self._hook.state_dict, ended=ended)
        if not self._left and self._hanging is None:
            if not came(ended.wait, self._patience.state_s):
                self._hang(self._patience.state_s)
            elif not self._left:
                self._state = call.answer
        return self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand on with the first call that comes after it: a run whose parts cannot be built leaves no thread behind."""
        self._state = state
        self._put("load_state_dict", lambda: self._hook.load_state_dict(state))

    def _put(self, method: str, run: Callable[[], Any], *, wake: bool = True, ended: Event | None = None) -> _Call:
        call = _Call(method, run, ended)
        starts = self._thread is None and method != "load_state_dict" and not self._left
        if starts:
            # A daemon: a hook that hangs for good must not keep the program from ending.
            thread = Thread(target=self._work, name=f"hook {self._name}", daemon=True)
            self._thread = thread if started(thread) else None
        with self._ready:
            if len(self._calls) >= MOST_CALLS:
                self._calls.popleft()
                self._dropped += 1
            self._calls.append(call)
            if self._left and ended is not None:
                ended.set()
            if wake or len(self._calls) >= WAKE_CALLS:
                self._ready.notify()
        if starts and self._thread is None:
            self._tell_here()
        self._look_after()
        return call

    def _tell_here(self) -> None:
        """The machine has no room for another thread: training waits for the hook rather than leave it out."""
        if "waited_for" not in self._told:
            self._note("waited_for", "is waited for, because the machine has no room for another thread")
        # As on a thread of its own: sys.exit() in a hook ends what it hears, not the run.
        with suppress(SystemExit):
            while self._calls:
                self._do(self._next())
        if self._under_way is not None:
            self._leave()

    def _work(self) -> None:
        # sys.exit() in a hook ends its thread, and no more.
        with suppress(SystemExit):
            call = self._next()
            while call.method != "on_end":
                self._do(call)
                call = self._next()
            self._do(call)
        self._leave()

    def _leave(self) -> None:
        """Nothing is heard from here on: whoever waits for the end of the last call, or of one behind it, waits for nothing."""
        with self._ready:
            self._left = True
            self._ready.notify()
            unheard = [self._under_way, *self._calls]
        for last in unheard:
            if last is not None and last.ended is not None:
                last.ended.set()

    def _next(self) -> _Call:
        with self._ready:
            while not self._calls:
                self._ready.wait()
            call = self._calls.popleft()
            call.began_s = self._clock.tick()
            self._under_way = call
        return call

    def _do(self, call: _Call) -> None:
        call.answer = call.run()
        with self._ready:
            self._under_way = None
            self._ready.notify()
        if call.ended is not None:
            call.ended.set()

    def _refuse(self, wish: Wish) -> None:
        if wish != NOTHING:
            self._wished = wish

    def _look_after(self) -> None:
        """Say what has become of the hook, on the thread of the training, where events are written."""
        under_way = self._under_way
        if self._hanging is not None and under_way is not self._hanging:
            took_s, self._hanging = self._clock.tick() - self._hanging.began_s, None
            self._note("answers", "answers again", seconds=round(took_s, 3))
        if self._hanging is None and under_way is not None:
            waited_s = self._clock.tick() - under_way.began_s
            if waited_s > self._patience.answer_s and not came(self._is_over(under_way), self._patience.moment_s):
                self._hang(waited_s)
        if self._wished != NOTHING:
            wish, self._wished = self._wished, NOTHING
            what = f"wished for {wish}, but it is told beside the training and cannot wish; let its class say inline = True"
            self._note("wish_refused", what)
        if self._left and (last := self._under_way) is not None:
            self._under_way = None
            self._note("left", f"has ended its thread in {last.method} and is told nothing more", method=last.method)

    def _is_over(self, call: _Call) -> Callable[[float], bool]:
        """Waits some seconds until a call is no longer under way, or the hook has left in it."""

        def waited_for(seconds: float) -> bool:
            with self._ready:
                return self._ready.wait_for(lambda: self._left or self._under_way is not call, seconds)

        return waited_for

    def _hang(self, waited_s: float) -> None:
        under_way = self._under_way
        if under_way is not None:
            self._hanging = under_way
            what = f"has not answered in {under_way.method} for {waited_s:.0f} s, training goes on"
            self._note("hangs", what, method=under_way.method)

    def _note(self, what: str, words: str, **data: Any) -> None:
        """An event each time; a line for its user once."""
        # Neither a disk nor a terminal that gives out may end the run.
        with suppress(OSError):
            self._events.note(f"hook_{what}", self._step, hook=self._name, dropped=self._dropped, **data)
        if what not in self._told:
            self._told.add(what)
            self._tell(f"hook {self._name!r} {words}" + (f" ({self._dropped} calls dropped)" if self._dropped else ""))
