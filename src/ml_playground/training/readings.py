"""The numbers of steps, fetched from the device, and what they say of the run."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ml_playground.core.values import Sum
from ml_playground.training.hook_protocols import StepReading
from ml_playground.training.protocols import StepNumbers


def read_numbers(pending: Sequence[StepNumbers], *, first_step: int) -> list[StepReading]:
    """The numbers of consecutive steps in one transfer: the only place where the loop waits for the device."""
    both = torch.stack([torch.stack([n.loss.double(), n.grad_norm.double()]) for n in pending])
    on_host = cast(list[tuple[float, float]], both.tolist())
    return [
        StepReading(first_step + i, loss, norm, numbers.lr, numbers.targets)
        for i, (numbers, (loss, norm)) in enumerate(zip(pending, on_host, strict=True))
    ]


def mean_of(sums: Sequence[Tensor]) -> float:
    """The mean over batches of totals and counts, each (2,), in one transfer; added up in float64, which not every device has."""
    total, count = cast(list[float], torch.stack(list(sums)).cpu().double().sum(0).tolist())
    return Sum(total, count).mean


def first_bad(readings: Sequence[StepReading]) -> StepReading | None:
    """The first step whose loss or gradient is no finite number."""
    return next((r for r in readings if not (math.isfinite(r.loss) and math.isfinite(r.grad_norm))), None)


def nan_message(bad: StepReading, saved_step: int) -> str:
    """What happened, what is kept, what to change."""
    kept = f"the checkpoint of step {saved_step} is from before" if saved_step else "no checkpoint was saved before"
    return (
        f"at step {bad.step} the loss was {bad.loss:g} and the gradient norm {bad.grad_norm:g}; {kept}. "
        "Lower optimizer.lr, lengthen schedule.warmup_steps, or set train.grad_clip to 1."
    )
