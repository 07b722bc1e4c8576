"""Use a given time: the learning rate is a function of the time that has passed, and reaches zero with its last second."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ml_playground.configuration.base import NonNegative, Strict
from ml_playground.core.humanise import plural
from ml_playground.core.run_schema import FINISHED, Reason
from ml_playground.core.values import NOTHING, Action, Progress, Wish
from ml_playground.training.hook_protocols import BaseHook, HookContext, StepEvent
from ml_playground.training.hooks.journal import EventJournal
from ml_playground.training.hooks.records import EventLog, json_number
from ml_playground.training.settings import TimeBudget

LEVELS = 160
"""Values that the factor takes on its way down: each change is a line of `events.jsonl`, which costs 0.1 ms."""
MEMORY = 0.95
"""Weight of the past in the time of a step."""


class _State(Strict):
    """What it remembers, checked when it is read back: a checkpoint may come from elsewhere."""

    factor: NonNegative
    loss: float | None
    step_s: NonNegative
    evaluation_s: NonNegative
    save_s: NonNegative


class TimeBudgetHook(BaseHook):
    """Brings the learning rate down by the clock, and wishes for the end in time for the last evaluation and save.

    What it wishes is recorded by step. A resumed run obeys those records, to the same bits, up to the step that the run
    had reached before; from there on the clock decides again. The recorded factor 0 is the end, and stays it.
    """

    steering: ClassVar[bool] = True

    def __init__(self, settings: TimeBudget, context: HookContext) -> None:
        self._settings = settings
        self._context = context
        self._seconds = settings.train_seconds or 60 * settings.minutes
        self._journal = EventJournal(context.run, context.clock)
        self._events = EventLog(context.run, context.clock)
        self._factor = 1.0
        self._loss: float | None = None
        self._evaluation_s = 0.0
        self._save_s = 0.0
        self._step_s = 0.0
        self._last_s: float | None = None
        self._evaluated = False
        self._owing_since_s: float | None = None
        self._over = False

    def on_start(self, progress: Progress) -> None:
        """An evaluation that is made before the first step is timed as any other."""
        self._owing_since_s = progress.elapsed_s if self._context.owes_evaluation else None

    def on_step(self, event: StepEvent) -> Wish:
        """The factor of the next step, where it changes; the end, when only the time for it is left."""
        step, now_s = event.progress.step, event.progress.elapsed_s
        self._watch(now_s)
        recorded = self._journal.recorded(step).lr_factor
        if recorded is not None:
            self._factor = recorded
        if step <= self._journal.last_step:
            return self._end() if recorded == 0.0 else NOTHING
        # What was due with the last step no longer is behind it: there would seem to be time again.
        if self._over:
            return self._end()
        end_s = self._seconds - self._evaluation_s - self._save_s
        # The step after the wish is still made, at a factor of zero, unless this one is evaluated or saved anyway.
        self._context.board.foreseen_steps = step + 1 + int(max(0.0, end_s - now_s) / max(self._step_s, 1e-9))
        if now_s + self._step_s + self._due_s(step + 1) >= end_s:
            return self._end()
        factor = factor_at(now_s / end_s, self._settings.decay_fraction)
        if factor == self._factor:
            return NOTHING
        self._factor = factor
        return Wish(lr_factor=factor)

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """Learn how long an evaluation takes, for the last one."""
        self._loss = metrics.get("loss")
        if self._owing_since_s is not None:
            # What comes next is the first step of the process, which tells neither of a step nor of a save.
            self._evaluation_s = max(self._evaluation_s, progress.elapsed_s - self._owing_since_s)
            self._owing_since_s = None
            return NOTHING
        if self._last_s is not None:
            self._evaluation_s = max(self._evaluation_s, progress.elapsed_s - self._last_s)
        self._last_s, self._evaluated = progress.elapsed_s, True
        return NOTHING

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """Write down what was foreseen and what came of it."""
        if reason not in FINISHED:
            return
        expected, loss = self._settings.expected_loss, self._loss
        self._events.note(
            "budget",
            progress.step,
            minutes=self._settings.minutes,
            used=self._factor == 0.0,
            train_seconds=round(progress.elapsed_s, 1),
            loss=json_number(loss),
            expected=expected,
            low=self._settings.expected_low,
            high=self._settings.expected_high,
            error=None if expected is None or loss is None else json_number(round(loss - expected, 4)),
        )

    def state_dict(self) -> Mapping[str, Any]:
        """The factor in force, and what the clock taught: seconds of a step, an evaluation, a save."""
        learnt = {"step_s": self._step_s, "evaluation_s": self._evaluation_s, "save_s": self._save_s}
        return {"factor": self._factor, "loss": json_number(self._loss)} | learnt

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it; an empty state, of a hook that was not there before, begins anew."""
        if state:
            kept = _State.model_validate(state)
            self._factor, self._loss = kept.factor, kept.loss
            self._step_s, self._evaluation_s, self._save_s = kept.step_s, kept.evaluation_s, kept.save_s

    def _end(self) -> Wish:
        self._over, self._factor = True, 0.0
        self._context.board.early_end = f"used its {plural(self._settings.minutes, 'minute')}"
        return _END

    def _due_s(self, step: int) -> float:
        """Seconds of the evaluation that is due at a step anyway: where no other fits behind it, it is the last."""
        due = step % self._context.job.train.evaluate_every_steps == 0
        return self._evaluation_s + self._save_s if due else 0.0

    def _watch(self, now_s: float) -> None:
        """Keep the time of a step; the step after an evaluation has the save in it, which the end has too.

        The first step of a process does not count: it loads and builds what the others find ready.
        """
        last_s, self._last_s = self._last_s, now_s
        if last_s is None:
            return
        passed_s = now_s - last_s
        if self._evaluated:
            self._evaluated = False
            self._save_s = max(self._save_s, passed_s - self._step_s)
        elif self._step_s:
            self._step_s = MEMORY * self._step_s + (1 - MEMORY) * passed_s
        else:
            self._step_s = passed_s


_END = Wish(Action.FINISH | Action.EVALUATE, lr_factor=0.0)


def factor_at(share: float, decay_fraction: float) -> float:
    """Share of the peak learning rate when this share of the time has passed: flat, then down in a line, in `LEVELS` steps."""
    if decay_fraction == 0:
        return 1.0
    height = min(1.0, (1 - share) / decay_fraction)
    # Zero is kept for the end.
    return max(1, round(LEVELS * height)) / LEVELS


def build(settings: TimeBudget, context: HookContext) -> TimeBudgetHook:
    """The hook."""
    return TimeBudgetHook(settings, context)
