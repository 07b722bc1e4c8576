"""What a run still has before it, by its schedule, and how long that takes: pure decisions, free of torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from ml_playground.configuration.models import CheckpointingSettings, JobConfig, TrainSettings
from ml_playground.training.settings import Samples, TimeBudget

SLOWER, FASTER = (1.10, 0.30), (0.95, -0.15)
"""How far a whole run may leave the middle half of n steps that were timed: the first number, and the second divided by n. Caches
warm up, neighbours come and go, and one step says little of the others."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the schedule of a run still has to come."""

    steps: int
    evaluations: int
    saves: int
    """At most: each evaluation may be the best so far, and is then saved."""
    lasting_saves: int
    """Those of them that `keep_every_steps` keeps for ever."""


def what_is_ahead(train: TrainSettings, rule: CheckpointingSettings, first: int, last: int) -> Ahead:
    """From the step after `first` to `last`; saves by time are not among them, for the settings do not tell how many come."""
    evaluating = [train.evaluate_every_steps]
    saving = [*([rule.every_steps] if rule.every_steps else []), *(evaluating if rule.keep_best else [])]
    every = rule.keep_every_steps
    lasting = 0
    if every:
        lasting = multiples([math.lcm(step, every) for step in saving], first, last)
        # The last step is saved whatever the schedule says.
        lasting += last > first and last % every == 0 and all(last % step for step in saving)
    return Ahead(
        steps=last - first,
        evaluations=multiples(evaluating, first, last, and_last=True),
        saves=multiples(saving, first, last, and_last=True),
        lasting_saves=lasting,
    )


def multiples(periods: Sequence[int], first: int, last: int, *, and_last: bool = False) -> int:
    """Numbers above `first`, up to `last`, that are a multiple of some period; the last number counts in any case if asked."""
    count = 0
    for size in range(1, len(periods) + 1):
        for chosen in combinations(periods, size):
            period = math.lcm(*chosen)
            count += (-1) ** (size + 1) * (last // period - first // period)
    return count + (and_last and last > first and all(last % period for period in periods))


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of the parts of a run, as they were measured."""

    steps: Sequence[float]
    """Of each step that was timed."""
    evaluation: float
    """Of a whole evaluation."""
    texts: float = 0.0
    """Of all texts that are still to be drawn."""
    save: float = 0.0
    """For which training stands still."""
    last_save: float = 0.0
    """Of the one that is waited for at the end."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time, and between what it is likely to lie."""

    likely_s: float
    low_s: float
    high_s: float


def time_to_finish(ahead: Ahead, pace: Pace, limit_s: float | None = None) -> Span:
    """How long the rest of a run takes, evaluations, texts and saves included.

    Args:
        ahead: What is to come.
        pace: How long the parts take.
        limit_s: Seconds after which a time budget ends the run.
    """

    def of(step_s: float, factor: float, saves: int) -> float:
        others = ahead.evaluations * pace.evaluation + pace.texts + saves * pace.save + pace.last_save
        seconds = factor * (ahead.steps * step_s + others)
        return seconds if limit_s is None else min(seconds, limit_s)

    # Not the mean: one step that the machine was called away from would count as many times as there are steps.
    timed = sorted(pace.steps)
    count, quarter = len(timed), len(timed) // 4
    faster, slower = (sure + unsure / count for sure, unsure in (FASTER, SLOWER))
    return Span(
        likely_s=of(timed[count // 2], 1.0, ahead.saves),
        low_s=of(timed[quarter], faster, 0),
        high_s=of(timed[-1 - quarter], slower, ahead.saves),
    )


def tokens_to_draw(job: JobConfig, first: int, last: int) -> int:
    """Tokens of all texts that the hooks draw on the way."""
    return sum(
        hook.max_new_tokens * multiples([hook.every_steps], first, last, and_last=True)
        for hook in job.hooks.values()
        if isinstance(hook, Samples) and hook.enabled
    )


def prompts_of(job: JobConfig) -> list[str]:
    """What texts begin with, while training and after it, each once."""
    live = [hook.prompt for hook in job.hooks.values() if isinstance(hook, Samples) and hook.enabled]
    return list(dict.fromkeys([*(prompt for prompt in live if prompt is not None), *job.sample.prompts]))


def time_limit(job: JobConfig) -> float | None:
    """Seconds after which a time budget ends the run."""
    limits = [
        hook.train_seconds or 60 * hook.minutes
        for hook in job.hooks.values()
        if isinstance(hook, TimeBudget) and hook.enabled
    ]
    return min(limits, default=None)


def measured_before(job: JobConfig) -> bool:
    """Whether the job was planned for a time: its steps were tried when that was done."""
    return any(isinstance(hook, TimeBudget) and hook.expected_loss is not None for hook in job.hooks.values())


def timed_saves(rule: CheckpointingSettings, seconds: float | None) -> int:
    """How many saves `every_minutes` can add in a time; unknown times count as long ones."""
    if rule.every_minutes is None:
        return 0
    # More than are kept at once make no difference.
    enough = rule.keep_last + rule.keep_best + 1
    return enough if seconds is None else min(enough, int(seconds / (60 * rule.every_minutes)))
