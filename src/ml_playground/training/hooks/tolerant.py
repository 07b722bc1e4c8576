"""The one declared place that survives a hook: watching must never hurt the run."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from ml_playground.core.foreign_files import json_table
from ml_playground.core.run_schema import Reason
from ml_playground.core.storage_errors import readable_size
from ml_playground.core.values import NOTHING, Action, Progress, Wish
from ml_playground.training.hook_protocols import Hook, HookContext, StepEvent
from ml_playground.training.hooks.records import EventLog, Tell, tell_stderr

MOST_STATE_BYTES = 4 << 20
"""Of what one hook remembers, as JSON; what all remember together is read back up to 64 MiB."""

FAILURES_IN_A_ROW = 3
"""Of one method; then the hook is switched off, for it will not mend itself."""

T = TypeVar("T")


class Tolerant:
    """Wraps a watching hook: its errors become events and a line on stderr, and after three in a row it is off."""

    steering: ClassVar[bool] = False
    inline: ClassVar[bool] = True

    def __init__(self, hook: Hook, name: str, context: HookContext, tell: Tell = tell_stderr) -> None:
        self._hook = hook
        self._name = name
        self._events = EventLog(context.run, context.clock, tell)
        self._tell = tell
        self._failures: dict[str, int] = {}
        self._told: set[str] = set()
        self._off = False
        self._step = 0
        self._state: Mapping[str, Any] = {}

    @property
    def switched_off(self) -> bool:
        """Whether the hook has failed too often to be asked again."""
        return self._off

    def on_start(self, progress: Progress) -> None:
        """Pass on."""
        self._step = progress.step
        self._survive("on_start", lambda: self._hook.on_start(progress), None)

    def on_step(self, event: StepEvent) -> Wish:
        """Pass on; NOTHING when it fails."""
        self._step = event.progress.step
        return self._survive("on_step", lambda: _checked_wish(self._hook.on_step(event)), NOTHING)

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """Pass on; NOTHING when it fails."""
        self._step = progress.step
        return self._survive(
            "on_evaluation", lambda: _checked_wish(self._hook.on_evaluation(progress, metrics)), NOTHING
        )

    def on_saved(self, progress: Progress, reference: str) -> None:
        """Pass on."""
        self._survive("on_saved", lambda: self._hook.on_saved(progress, reference), None)

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """Pass on."""
        self._step = progress.step
        self._survive("on_end", lambda: self._hook.on_end(progress, reason, error), None)

    def state_dict(self) -> Mapping[str, Any]:
        """The hook's state; the last one that it could give, when it fails."""
        self._state = self._survive("state_dict", lambda: _checked_state(self._hook.state_dict()), self._state)
        return self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Pass on."""
        self._state = state
        self._survive("load_state_dict", lambda: self._hook.load_state_dict(state), None)

    def _survive(self, method: str, call: Callable[[], T], otherwise: T) -> T:
        if self._off:
            return otherwise
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - the one declared place, see above
            self._note_failure(method, error)
            return otherwise
        self._failures[method] = 0
        return result

    def _note_failure(self, method: str, error: Exception) -> None:
        failures = self._failures[method] = self._failures.get(method, 0) + 1
        self._off = failures >= FAILURES_IN_A_ROW
        reason = f"{type(error).__name__}: {error}"
        lines: list[str] = []
        if reason not in self._told:
            self._told.add(reason)
            lines.append(f"hook {self._name!r} failed in {method}, training goes on: {reason}")
        if self._off:
            lines.append(f"hook {self._name!r} is switched off after {failures} failures in a row")
        try:
            self._events.note(
                "hook_failed", self._step, hook=self._name, method=method, reason=reason, switched_off=self._off
            )
            for line in lines:
                self._tell(line)
        except Exception:  # noqa: BLE001 - neither a full disk nor a closed terminal may end the run
            self._off = True


def _checked_wish(value: Wish) -> Wish:
    """A wish, or an error that names what came instead.

    Raises:
        TypeError: It is no wish, or wishes for what cannot be done.
    """
    if value is NOTHING:
        return value
    factor: Any = getattr(value, "lr_factor", None)
    sound = (
        isinstance(value, Wish)  # pyright: ignore[reportUnnecessaryIsInstance] - plugins need not be typed
        and isinstance(value.action, Action)  # pyright: ignore[reportUnnecessaryIsInstance]
        and (factor is None or (isinstance(factor, int | float) and math.isfinite(factor) and factor > 0))
    )
    if not sound:
        raise TypeError(f"a hook must answer with a Wish, got {value!r}; return NOTHING when there is none")
    return value


def _checked_state(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state as JSON holds it, which the hook changes no more, or an error.

    Raises:
        TypeError, ValueError: It is no mapping, holds what JSON lacks, or is larger or nested deeper than a checkpoint is read.
    """
    if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - plugins need not be typed
        raise TypeError(f"a hook's state must be a mapping of JSON values, got {value!r}")
    # As deep as it will lie in the file of all hooks.
    text = json.dumps({"state": dict(value)}, allow_nan=False)
    if len(text) > MOST_STATE_BYTES:
        raise ValueError(
            f"its state takes {readable_size(len(text))}, and a checkpoint holds {readable_size(MOST_STATE_BYTES)} of a hook; "
            "what is larger belongs into a file"
        )
    # A copy: a hook beside the training may go on changing its own while a checkpoint is written.
    return json_table(text)["state"]
