"""`status.json`: what the run is doing at this moment."""

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import StorageError
from ml_playground.core.run_schema import Reason, RunState, Status
from ml_playground.core.values import NOTHING, Progress, Wish
from ml_playground.training.flight_report import PASSED_OVER
from ml_playground.training.hook_protocols import BaseHook, HookContext, StepEvent
from ml_playground.training.hooks.pace import Pace
from ml_playground.training.hooks.records import Tell, json_number, tell_stderr
from ml_playground.training.settings import StatusFile


class StatusHook(BaseHook):
    """Replaces `status.json` whole: at each change of state, and else at most every `every_seconds`."""

    inline: ClassVar[bool] = True

    def __init__(self, settings: StatusFile, context: HookContext, tell: Tell = tell_stderr) -> None:
        self._every_seconds = settings.every_seconds
        self._context = context
        self._tell = tell
        self._pace = Pace(context.clock, context.max_steps)
        self._next_s = -math.inf
        self._evaluate_every_steps = context.job.train.evaluate_every_steps
        self._loss: float | None = None
        self._last_loss: float | None = None
        self._validation_loss: float | None = None
        self._lowest: float | None = None
        self._merit = context.job.merit
        self._best: float | None = None
        self._saved_step: int | None = context.first_step or None
        self._step = 0
        self._failed = False

    def on_start(self, progress: Progress) -> None:
        """The process is there."""
        self._write(progress, "evaluating" if self._context.owes_evaluation else "starting")
        # The first step is worth a write of its own: it may come minutes after the start, when it is compiled.
        self._next_s = -math.inf

    def on_step(self, event: StepEvent) -> Wish:
        """Take in readings; write when it is time, or when an evaluation comes next."""
        if event.readings:
            self._loss, self._last_loss = event.loss, event.readings[-1].loss
            self._pace.update(event)
        self._step = step = event.progress.step
        if step % self._evaluate_every_steps == 0 or step == self._context.max_steps:
            self._write(event.progress, "evaluating")
        elif self._context.clock.tick() >= self._next_s:
            self._write(event.progress, "training")
        return NOTHING

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """Keep the validation loss, the lowest one, and the best of what checkpoints are compared by."""
        loss = metrics.get("loss")
        if loss is not None:
            self._validation_loss = loss
            if not math.isnan(loss) and (self._lowest is None or loss < self._lowest):
                self._lowest = loss
        cost = self._merit.cost_of(metrics)
        best = math.inf if self._best is None else self._merit.cost_of({self._merit.metric: self._best})
        if cost < best:
            self._best = metrics[self._merit.metric]
        self._write(progress, "training")
        return NOTHING

    def on_saved(self, progress: Progress, reference: str) -> None:
        """The newest checkpoint."""
        self._saved_step = progress.step
        # Training may be further by the time that a checkpoint is durable.
        self._write(replace(progress, step=max(progress.step, self._step)), "training")

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """The last state."""
        if error is None:
            # Without a reason it is no end: the run goes on from an earlier step.
            if reason == "nan":
                # The mean was taken over those of the last steps whose loss was a number.
                self._loss = json_number(self._last_loss)
            if reason is not None:
                words = self._context.board.early_end if reason == "stopped_early" else ""
                self._write(progress, "ended", reason=reason, message=words)
        elif not isinstance(error, KeyboardInterrupt):
            # After the second Ctrl-C the run is what it is after any kill: interrupted, which its free lock says.
            self._write(progress, "failed", message=f"{type(error).__name__}: {error}")

    def state_dict(self) -> Mapping[str, Any]:
        """What was measured last, so that a resumed run shows it from its first moment on.

        The loss is that of one step: a mean since the reading before would tell of an earlier pause, and no run is to remember one.
        """
        return {
            "loss": json_number(self._last_loss),
            "validation_loss": json_number(self._validation_loss),
            "best": json_number(self._lowest),
            "best_by": json_number(self._best),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        self._loss = self._last_loss = state.get("loss")
        self._validation_loss = state.get("validation_loss")
        self._lowest = state.get("best")
        # Earlier versions kept the lowest loss alone.
        self._best = state.get("best_by", self._lowest if self._merit.metric == "loss" else None)

    def _write(self, progress: Progress, state: RunState, reason: Reason | None = None, message: str = "") -> None:
        self._next_s = self._context.clock.tick() + self._every_seconds
        status = Status(
            run=self._context.run.id,
            state=state,
            reason=reason,
            message=message,
            note=self._context.facts.get(PASSED_OVER, ""),
            pid=os.getpid(),
            updated_at=self._context.clock.now(),
            step=progress.step,
            max_steps=progress.max_steps,
            epoch=progress.epoch,
            targets=progress.targets,
            unit=self._context.unit,
            loss=self._loss,
            validation_loss=self._validation_loss,
            best_validation_loss=self._lowest,
            best=self._best,
            best_metric=self._merit.metric,
            targets_per_s=self._pace.targets_per_s,
            elapsed_s=progress.elapsed_s,
            eta_s=self._pace.eta_s(progress.step, self._context.board.foreseen_steps)
            if state in ("training", "evaluating")
            else None,
            saved_step=self._saved_step,
        )
        try:
            # Not durable: a power cut leaves no process whose status it could be, and a wait costs a step.
            write_file(self._context.run.status, status.model_dump_json(), durable=False)
        except StorageError as error:
            if not self._failed:
                self._tell(f"{self._context.run.status} is not updated for now, training goes on: {error}")
            self._failed = True
        else:
            self._failed = False


def build(settings: StatusFile, context: HookContext) -> StatusHook:
    """The hook."""
    return StatusHook(settings, context)
