"""Progress on the terminal: a live picture, or plain lines when the output is no terminal.

All of it goes to stderr, so that what a command prints on stdout can be piped.
"""

import math
from collections.abc import Mapping
from threading import Event, Thread
from typing import IO, Any, cast

from rich.console import Console as Terminal
from rich.live import Live
from rich.text import Text

from ml_playground.core.humanise import printable
from ml_playground.core.run_schema import Reason
from ml_playground.core.side_threads import started
from ml_playground.core.standard_error import PatientStderr
from ml_playground.core.values import NOTHING, Progress, Wish
from ml_playground.training.hook_protocols import BaseHook, HookContext, StepEvent
from ml_playground.training.hooks.console_text import (
    Numbers,
    end_line,
    evaluating_line,
    evaluation_line,
    picture,
    progress_line,
    sample_lines,
    saved_line,
    start_line,
)
from ml_playground.training.hooks.pace import Pace
from ml_playground.training.hooks.records import json_number
from ml_playground.training.settings import Console

LIVE_SECONDS = 0.25
"""Shortest time between two pictures: a drawing takes about 2 ms, which is then below 1 % of the time."""


class ConsoleHook(BaseHook):
    """Shows how far the run is, what it learns, and what it writes."""

    def __init__(self, settings: Console, context: HookContext, terminal: Terminal, *, live: bool) -> None:
        self._context = context
        self._terminal = terminal
        self._pace = Pace(context.clock, context.max_steps)
        self._numbers = Numbers(context.run.id, context.unit, context.max_steps, facts=context.facts)
        self._numbers.best_by = context.job.merit.metric
        self._numbers.saved_step = context.first_step
        self._every_seconds = LIVE_SECONDS if live else settings.every_seconds
        self._next_s = -math.inf
        self._evaluating: tuple[Event, Thread] | None = None
        # Drawn by the hook's thread alone: another one of the library would take its time from the steps unasked.
        # stdout stays as it is, for it may be piped; what is written to stderr appears above the picture.
        self._live = Live(console=terminal, auto_refresh=False, transient=True, redirect_stdout=False) if live else None

    def on_start(self, progress: Progress) -> None:
        """Say what begins."""
        self._take(progress)
        self._say(start_line(self._numbers))
        if self._live is not None:
            self._live.start()
        if self._context.owes_evaluation:
            self._await_evaluation(progress)
        self._draw()

    def on_step(self, event: StepEvent) -> Wish:
        """Take in readings; show them when it is time."""
        fresh = self._take_sample()
        if not event.readings and not fresh:
            return NOTHING
        if event.readings:
            self._read(event)
            step, every = event.progress.step, self._context.job.train.evaluate_every_steps
            if step % every == 0 or step == self._context.max_steps:
                self._await_evaluation(event.progress)
        now_s = self._context.clock.tick()
        if now_s >= self._next_s:
            self._next_s = now_s + self._every_seconds
            if self._live is None and event.readings:
                self._say(progress_line(self._numbers))
            self._draw()
        return NOTHING

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """A line for each evaluation, in both forms."""
        self._evaluated()
        self._take(progress)
        numbers, merit = self._numbers, self._context.job.merit
        numbers.validation_loss = metrics.get("loss", numbers.validation_loss)
        best = math.inf if numbers.best is None else merit.cost_of({merit.metric: numbers.best})
        if merit.cost_of(metrics) < best:
            numbers.best, numbers.best_step = metrics[merit.metric], progress.step
        self._say(evaluation_line(self._numbers, metrics))
        self._take_sample()
        self._draw()
        return NOTHING

    def on_saved(self, progress: Progress, reference: str) -> None:
        """A line for each checkpoint, in a log; the live picture has better things to show."""
        self._numbers.saved_step = progress.step
        if self._live is None:
            self._say(saved_line(progress))

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """Clear the picture, and say what came of it: the last sample, which went with the picture, and the numbers."""
        self._evaluated()
        self._take(progress)
        self._take_sample()
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._say_sample()
        self._numbers.early_end = self._context.board.early_end
        self._say(end_line(self._numbers, reason, error))

    def state_dict(self) -> Mapping[str, Any]:
        """The best evaluation so far, so that a resumed run does not call a worse one the best."""
        return {
            "validation_loss": json_number(self._numbers.validation_loss),
            "best": json_number(self._numbers.best),
            "best_step": self._numbers.best_step,
            "best_by": self._numbers.best_by,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        self._numbers.validation_loss = state.get("validation_loss")
        if state.get("best_by", "loss") == self._numbers.best_by:
            self._numbers.best = state.get("best")
            self._numbers.best_step = state.get("best_step", 0)

    def _take_sample(self) -> bool:
        """Whether there is a sample that was not shown; a log gets it at once."""
        sample = self._context.board.newest_sample
        if sample is None or sample is self._numbers.sample:
            return False
        self._numbers.sample = sample
        if self._live is None:
            self._say_sample()
        return True

    def _say_sample(self) -> None:
        if (sample := self._numbers.sample) is not None:
            self._say(f"sample at step {sample.step:,}")
            for line in sample_lines(sample, self._terminal.encoding):
                self._say(f"    {line}")

    def _take(self, progress: Progress) -> None:
        self._numbers.step = progress.step
        self._numbers.targets = progress.targets
        self._numbers.elapsed_s = progress.elapsed_s

    def _read(self, event: StepEvent) -> None:
        self._take(event.progress)
        self._pace.update(event)
        self._numbers.reading = event.readings[-1]
        self._numbers.loss = event.loss
        self._numbers.targets_per_s = self._pace.targets_per_s
        foreseen = self._context.board.foreseen_steps
        self._numbers.max_steps = foreseen or self._context.max_steps
        self._numbers.eta_s = self._pace.eta_s(event.progress.step, foreseen)

    def _await_evaluation(self, progress: Progress) -> None:
        """A log that stands still for minutes looks like a run that hangs: say now and then that it is evaluated."""
        if self._live is not None:
            return
        self._evaluated()
        ended, began_s = Event(), self._context.clock.tick()
        thread = Thread(target=self._still_evaluating, args=(ended, progress, began_s), name="evaluating", daemon=True)
        if started(thread):
            self._evaluating = ended, thread

    def _still_evaluating(self, ended: Event, progress: Progress, began_s: float) -> None:
        while not ended.wait(self._every_seconds):
            passed_s = self._context.clock.tick() - began_s
            if passed_s >= self._every_seconds:
                self._say(evaluating_line(progress, passed_s))

    def _evaluated(self) -> None:
        if self._evaluating is not None:
            ended, thread = self._evaluating
            self._evaluating = None
            ended.set()
            thread.join()

    def _say(self, line: str) -> None:
        clean = printable(line, self._terminal.encoding)
        if self._live is not None:
            self._terminal.print(Text(clean))
        else:
            # Not through the terminal's own printing, which would fold a line of a log at 80 columns.
            self._terminal.file.write(f"{clean}\n")
            self._terminal.file.flush()

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(picture(self._numbers, self._terminal.width, self._terminal.encoding), refresh=True)


def build(settings: Console, context: HookContext) -> ConsoleHook:
    """The hook, on stderr."""
    stderr = PatientStderr()
    terminal = Terminal(file=cast(IO[str], stderr), highlight=False)
    # Asked of the file itself: FORCE_COLOR makes the library call a pipe a terminal, and a log full of cursor moves.
    live = stderr.isatty() and not terminal.is_dumb_terminal
    return ConsoleHook(settings, context, terminal, live=live)
