"""A goal: events in, wishes out."""

from collections.abc import Mapping
from typing import ClassVar

from ml_playground.core.values import NOTHING, Action, Progress, Wish
from ml_playground.training.hook_protocols import BaseHook, HookContext
from ml_playground_dice.settings import Goal


class GoalHook(BaseHook):
    """Wishes for the end when an evaluation is good enough; remembers nothing, so a resumed run does the same."""

    steering: ClassVar[bool] = True

    def __init__(self, settings: Goal) -> None:
        self._settings = settings

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """Compare."""
        del progress
        return Wish(Action.FINISH) if metrics["loss"] <= self._settings.loss else NOTHING


def build(settings: Goal, context: HookContext) -> GoalHook:
    """The hook."""
    context.board.early_end = f"reached its goal, a loss of {settings.loss:g}"
    return GoalHook(settings)
