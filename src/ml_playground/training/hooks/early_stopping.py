"""Finish a run whose evaluations no longer improve."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from ml_playground.configuration.base import CountOrZero, Strict
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import did_you_mean
from ml_playground.core.values import NOTHING, Action, Merit, Progress, Wish
from ml_playground.training.hook_protocols import BaseHook, HookContext
from ml_playground.training.settings import EarlyStopping


class _State(Strict):
    """What it remembers, checked when it is read back: a checkpoint may come from elsewhere."""

    misses: CountOrZero
    lowest: float | None
    mean: float | None
    metric: str = "loss"
    """Of which they are."""


class EarlyStoppingHook(BaseHook):
    """Counts evaluations in a row without improvement; at `patience` it wishes for the end. What is better when higher is negated."""

    steering: ClassVar[bool] = True

    def __init__(self, settings: EarlyStopping, merit: Merit) -> None:
        self._settings = settings
        self._merit = merit
        self._misses = 0
        self._lowest: float | None = None
        self._mean: float | None = None

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """Compare with the best value so far.

        Raises:
            ConfigError: The evaluation has no such metric.
        """
        name = self._settings.metric
        if name not in metrics:
            raise ConfigError(
                f"metric = {name!r} of the early_stopping hook is not among what an evaluation measures"
                f"{did_you_mean(name, metrics)} (allowed: {', '.join(sorted(metrics))})."
            )
        self._misses = 0 if self._improves(self._merit.cost_of(metrics)) else self._misses + 1
        return Wish(Action.FINISH) if self._misses >= self._settings.patience else NOTHING

    def state_dict(self) -> Mapping[str, Any]:
        """Patience survives a resume."""
        return {
            "misses": self._misses,
            "lowest": self._lowest,
            "mean": self._mean,
            "metric": self._settings.metric,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting; an empty state, of a hook that was not there before, begins anew, and so does that of another metric."""
        kept = _State.model_validate(state) if state else None
        if kept is not None and kept.metric == self._settings.metric:
            self._misses, self._lowest, self._mean = kept.misses, kept.lowest, kept.mean

    def _improves(self, value: float) -> bool:
        # A value that is no number says nothing about the mean, and is no improvement.
        if not math.isfinite(value):
            return False
        past = self._settings.smoothing
        self._mean = value if self._mean is None else past * self._mean + (1 - past) * value
        if self._lowest is not None and (
            self._mean >= self._lowest or self._mean > self._lowest - self._settings.min_delta
        ):
            return False
        self._lowest = self._mean
        return True


def build(settings: EarlyStopping, context: HookContext) -> EarlyStoppingHook:
    """The hook."""
    return EarlyStoppingHook(settings, context.job.merit_of(settings.metric))
