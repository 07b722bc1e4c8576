"""How fast a run goes, and how long it will still take."""

from ml_playground.core.deps import Clock
from ml_playground.training.hook_protocols import StepEvent

MEMORY = 0.9
"""Weight of the past at each reading: a reading counts for about the next ten."""


class Pace:
    """Smooths the speed over readings; estimates the rest from the time of day, evaluations and saves included."""

    def __init__(self, clock: Clock, max_steps: int) -> None:
        self._clock = clock
        self._max_steps = max_steps
        self._weighted = 0.0
        self._weight = 0.0
        self._begin: tuple[int, float] | None = None

    def update(self, event: StepEvent) -> None:
        """Take in the readings of an event."""
        if event.readings and self._begin is None:
            # Counted from the first reading on: before it lie compilation and warm-up, which come once.
            self._begin = (event.progress.step, self._clock.tick())
        if event.targets_per_s is not None:
            self._weighted = MEMORY * self._weighted + (1 - MEMORY) * event.targets_per_s
            self._weight = MEMORY * self._weight + (1 - MEMORY)

    @property
    def targets_per_s(self) -> float | None:
        """Smoothed speed of training alone; None before the first reading."""
        return self._weighted / self._weight if self._weight else None

    def eta_s(self, step: int, foreseen_steps: int | None = None) -> float | None:
        """Seconds from `step` to the end of the run, or to the steps at which its time will be up; None before two readings."""
        if self._begin is None or step <= self._begin[0]:
            return None
        step_s = (self._clock.tick() - self._begin[1]) / (step - self._begin[0])
        return max(0, (foreseen_steps or self._max_steps) - step) * step_s
