"""`metrics.jsonl`: a row for every step and every evaluation; `events.jsonl`: what happened once."""

import os
from collections.abc import Mapping
from typing import ClassVar

from ml_playground.core.run_schema import MetricRow, Reason
from ml_playground.core.values import NOTHING, Progress, Wish
from ml_playground.training.hook_protocols import BaseHook, HookContext, StepEvent
from ml_playground.training.hooks.records import Appender, EventLog, Tell, cut_after, tell_stderr
from ml_playground.training.settings import JsonlMetrics


class JsonlMetricsHook(BaseHook):
    """Writes rows as soon as their numbers are known, one append for each interval."""

    inline: ClassVar[bool] = True

    def __init__(self, context: HookContext, tell: Tell = tell_stderr) -> None:
        self._context = context
        self._events = EventLog(context.run, context.clock, tell)
        self._rows = Appender(context.run.metrics, "metrics", tell)

    def on_start(self, progress: Progress) -> None:
        """Cut back to where this process begins, so that no step is missing or doubled."""
        path = self._context.run.metrics
        dropped = cut_after(path, progress.step, evaluates_again=self._context.owes_evaluation)
        if dropped:
            self._events.note("rows_dropped", progress.step, file=path.name, rows=dropped)
        kind = "resumed" if self._context.first_step else "started"
        self._events.note(kind, progress.step, pid=os.getpid(), **self._context.facts)

    def on_step(self, event: StepEvent) -> Wish:
        """Rows for the readings, if there are some."""
        if not event.readings:
            return NOTHING
        last = len(event.readings) - 1
        # The clock is read once an interval, so only its last row can say when and how fast.
        timing = {"elapsed_s": round(event.progress.elapsed_s, 3)}
        if event.targets_per_s is not None:
            timing["targets_per_s"] = round(event.targets_per_s, 3)
        rows: list[str] = []
        for position, reading in enumerate(event.readings):
            values = {
                "loss": reading.loss,
                "grad_norm": reading.grad_norm,
                "lr": reading.lr,
                "targets": reading.targets,
            }
            row = MetricRow(kind="train", step=reading.step, values=values, timing=timing if position == last else {})
            rows.append(row.model_dump_json())
        self._rows.append(rows)
        return NOTHING

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """A row for the evaluation."""
        timing = {"elapsed_s": round(progress.elapsed_s, 3)}
        row = MetricRow(kind="evaluation", step=progress.step, values=dict(metrics), timing=timing)
        self._rows.append([row.model_dump_json()])
        return NOTHING

    def on_saved(self, progress: Progress, reference: str) -> None:
        """An event."""
        self._events.note("saved", progress.step, reference=reference)

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """An event: how the loop was left."""
        self._rows.append([])
        if error is not None:
            self._events.note("failed", progress.step, error=f"{type(error).__name__}: {error}")
        elif reason is not None:
            self._events.note("ended", progress.step, reason=reason)


def build(settings: JsonlMetrics, context: HookContext) -> JsonlMetricsHook:
    """The hook."""
    return JsonlMetricsHook(context)
