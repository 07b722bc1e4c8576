"""Schedules: pure functions of the step, in shares of the peak learning rate. Step 0 is the first update."""

import math
from collections.abc import Callable

from ml_playground.training.settings import (
    OneCycle,
    Schedule,
    WarmupConstant,
    WarmupCosine,
    WarmupLinear,
    WarmupStableDecay,
)


def warmup_cosine(settings: WarmupCosine, max_steps: int) -> Callable[[int], float]:
    """Up in a line, down in half a cosine that would touch the floor one step after the last."""

    def shape(done: float) -> float:
        return _down_to(settings.floor, 0.5 * (1 + math.cos(math.pi * done)))

    return _after_warmup(settings, max_steps, shape)


def warmup_linear(settings: WarmupLinear, max_steps: int) -> Callable[[int], float]:
    """Up in a line, down in a line."""
    return _after_warmup(settings, max_steps, lambda done: _down_to(settings.floor, 1 - done))


def warmup_constant(settings: WarmupConstant, max_steps: int) -> Callable[[int], float]:
    """Up in a line, then flat."""
    return _after_warmup(settings, max_steps, lambda done: 1.0)


def warmup_stable_decay(settings: WarmupStableDecay, max_steps: int) -> Callable[[int], float]:
    """Up in a line, flat, and down in a line over the last `decay_fraction` of all steps."""
    decay_steps = max(1, round(settings.decay_fraction * max_steps)) if settings.decay_fraction else 0
    warmup_steps = settings.warmup(max_steps)
    decay_begins = max(warmup_steps, max_steps - decay_steps)

    def factor_at(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if step < decay_begins:
            return 1.0
        return _down_to(settings.floor, 1 - (step - decay_begins) / max(1, max_steps - decay_begins))

    return factor_at


def one_cycle(settings: OneCycle, max_steps: int) -> Callable[[int], float]:
    """Up in a line over nearly a third of the run, down in half a cosine to nearly nothing.

    Source: Smith and Topin 2017, arXiv 1708.07120, in two phases as torch.optim.lr_scheduler.OneCycleLR has it.
    """
    return _after_warmup(
        settings, max_steps, lambda done: _down_to(settings.floor, 0.5 * (1 + math.cos(math.pi * done)))
    )


def _after_warmup(settings: Schedule, max_steps: int, shape: Callable[[float], float]) -> Callable[[int], float]:
    """The shared warm-up, then `shape` of the share of the remaining steps that is done."""
    warmup_steps = settings.warmup(max_steps)

    def factor_at(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return shape((step - warmup_steps) / max(1, max_steps - warmup_steps))

    return factor_at


def _down_to(floor: float, share: float) -> float:
    """From 1 down to the floor, as `share` goes from 1 to 0; never below the floor."""
    return floor + (1 - floor) * max(0.0, share)
