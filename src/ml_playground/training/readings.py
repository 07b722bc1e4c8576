"""The numbers of steps, fetched from the device, and what they say of the run."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ml_playground.configuration.models import TrainSettings
from ml_playground.core.course import RollBack
from ml_playground.core.deps import Clock
from ml_playground.core.values import Sum
from ml_playground.training.guard import BadStep
from ml_playground.training.hook_protocols import StepReading
from ml_playground.training.protocols import StepNumbers


def read_numbers(pending: Sequence[StepNumbers], *, first_step: int) -> list[StepReading]:
    """The numbers of consecutive steps in one transfer: the only place where the loop waits for the device."""
    # As they are: MPS knows no float64, and the host makes the same numbers of them.
    both = torch.stack([torch.stack([n.loss, n.grad_norm]) for n in pending])
    on_host = cast(list[tuple[float, float]], both.tolist())
    return [
        StepReading(first_step + i, loss, norm, numbers.lr, numbers.targets)
        for i, (numbers, (loss, norm)) in enumerate(zip(pending, on_host, strict=True))
    ]


class Meter:
    """The numbers of steps that are still on the device, and the speed of training between two readings."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pending: list[StepNumbers] = []
        self._begun_s = clock.tick()

    def begin(self) -> None:
        """From here on time counts: evaluations and saves do not."""
        self._begun_s = self._clock.tick()

    def add(self, numbers: StepNumbers) -> None:
        """Those of one more step."""
        self._pending.append(numbers)

    def read(self, step: int) -> tuple[Sequence[StepReading], float]:
        """The readings of all steps since the last time, up to this one; targets per second."""
        pending, self._pending = self._pending, []
        readings = read_numbers(pending, first_step=step - len(pending) + 1)
        elapsed_s = self._clock.tick() - self._begun_s
        return readings, sum(numbers.targets for numbers in pending) / max(elapsed_s, 1e-9)


def mean_of(sums: Sequence[Tensor]) -> float:
    """The mean over batches of totals and counts, each (2,), in one transfer; added up in float64, which not every device has."""
    total, count = cast(list[float], torch.stack(list(sums)).cpu().double().sum(0).tolist())
    return Sum(total, count).mean


def not_finite(loss: Tensor, grad_norm: Tensor) -> Tensor:
    """() float32 on the device: 1 where one of the numbers of a step is not finite, else 0."""
    return (~(torch.isfinite(loss) & torch.isfinite(grad_norm))).float()


def nan_message(bad: BadStep, saved_step: int, settings: TrainSettings) -> str:
    """What happened, what was tried, what is kept, what to change."""
    kept = f"the checkpoint of step {saved_step} is from before" if saved_step else "no checkpoint was saved before"
    tried = f" after {bad.tried} such steps (train.bad_step_tries)" if bad.tried else ""
    clipped = 0 < settings.grad_clip <= 1
    more = "" if clipped else ", or set train.grad_clip to 1"
    ways = f"Lower optimizer.lr{' or' if clipped else ','} lengthen schedule.warmup_steps{more}."
    return f"at step {bad.step} {bad.why}{tried}; {kept}. {ways}"


def rolled_back_message(undone: RollBack, saved_step: int) -> str:
    """What happened, and how the run goes on."""
    where = f"the checkpoint of step {saved_step:,}" if saved_step else "its beginning"
    many = len(undone.batches) != 1
    numbers = ", ".join(map(str, undone.batches))
    return (
        f"step {undone.step:,} is undone: {undone.why}; the run goes on from {where}, "
        f"without micro-batch{'es' if many else ''} {numbers}"
    )
