"""Texts drawn as training goes on, kept in `samples/live.jsonl` and shown by the console."""

import json
from typing import ClassVar

from ml_playground.core.atomic import read_lines
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.run_schema import Reason
from ml_playground.core.seeding import seed_for
from ml_playground.core.values import NOTHING, Progress, Wish
from ml_playground.training.hook_protocols import BaseHook, HookContext, LiveSample, Preview, StepEvent
from ml_playground.training.hooks.records import Appender, Tell, cut_after, step_of, tell_stderr
from ml_playground.training.settings import Samples


class SamplesHook(BaseHook):
    """Draws at every `every_steps`, when asked, and at the end of the job; equal seeds, equal texts."""

    inline: ClassVar[bool] = True

    def __init__(self, settings: Samples, context: HookContext, preview: Preview, tell: Tell = tell_stderr) -> None:
        self._settings = settings
        self._context = context
        self._preview = preview
        self._prompt = context.job.sample.prompts[0] if settings.prompt is None else settings.prompt
        # A prompt from a file may be long, and its name is what its user knows it by.
        self._shown_prompt = f"[{self._prompt}] " if self._prompt.startswith("FILE:") else self._prompt
        self._path = context.run.samples / "live.jsonl"
        self._rows = Appender(self._path, "samples", tell)
        self._drawn_at: int | None = None
        context.board.draws_samples = True

    def on_start(self, progress: Progress) -> None:
        """Cut back to where this process begins; what was drawn at that very step need not be drawn again."""
        cut_after(self._path, progress.step)
        self._drawn_at = max(
            (step for line in read_lines(self._path) if (step := step_of(line)) is not None), default=None
        )

    def on_step(self, event: StepEvent) -> Wish:
        """Draw when it is time, or when asked."""
        step = event.progress.step
        if (
            step % self._settings.every_steps == 0
            or step == self._context.max_steps
            or self._context.board.sample_wanted
        ):
            self._draw(step)
        return NOTHING

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """The last word of a run that stopped early; a paused one goes on later."""
        if reason == "stopped_early" and self._drawn_at != progress.step:
            self._draw(progress.step)

    def _draw(self, step: int) -> None:
        board = self._context.board
        board.sample_wanted = False
        self._drawn_at = step
        text = self._preview(
            self._prompt,
            max_new_tokens=self._settings.max_new_tokens,
            seed=seed_for(self._context.job.seed, "preview", step),
        )
        board.newest_sample = LiveSample(step, self._shown_prompt, text)
        row = {"step": step, "prompt": self._shown_prompt, "text": text}
        self._rows.append([json.dumps(row)])


def build(settings: Samples, context: HookContext) -> SamplesHook:
    """The hook.

    Raises:
        ConfigError: The objective draws no text.
    """
    if context.preview is None:
        raise ConfigError(
            f"a hook of kind 'samples' draws text, but objective.kind = {context.job.objective.kind_name!r} cannot; "
            "remove the hook, or set its enabled = false."
        )
    return SamplesHook(settings, context, context.preview)
