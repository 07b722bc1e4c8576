"""One stretch of a run: where a process takes it up, how it is left, and what breaks off in it when somebody wants to stop."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ml_playground.core.course import Course
from ml_playground.core.run_schema import Reason
from ml_playground.core.values import Action
from ml_playground.training.checkpointing.best import BestSoFar

T = TypeVar("T")

LEAVING = Action.PAUSE | Action.FINISH


@dataclass(frozen=True, slots=True)
class Start:
    """Where this process takes up the run."""

    step: int = 0
    targets: float = 0.0
    elapsed_s: float = 0.0
    lr_factor: float = 1.0
    best: BestSoFar = field(default_factory=BestSoFar)
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    """The evaluation at this step, if there was one."""
    owed: Action = Action.NONE
    """What is still to be done at this very step: a stop broke its evaluation off."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the loop was left."""

    reason: Reason
    step: int
    metrics: Mapping[str, float]
    message: str = ""


@dataclass(frozen=True, slots=True)
class WentBack:
    """The loop was left because a step is undone: the run goes on from its newest checkpoint, without the step's batches."""

    course: Course
    """With the step in it."""
    elapsed_s: float
    saved_step: int = 0
    """Step of that checkpoint; 0 where there is none."""


class StopWantedError(Exception):
    """Somebody wants to stop: what is under way is broken off, and made again by the next start."""


def unless_stopped(things: Iterable[T], stop_requested: Callable[[], bool]) -> Iterator[T]:
    """Each of some things, as long as nobody wants to stop.

    Raises:
        StopWantedError: Somebody does, before the next one.
    """
    for thing in things:
        if stop_requested():
            raise StopWantedError
        yield thing


def paused(step: int, metrics: Mapping[str, float], where: str) -> Ending:
    """The end of a process whose run goes on later."""
    return Ending("paused", step, metrics, f"paused {where} {step}; the same command goes on")


def left_early(actions: Action, step: int, metrics: Mapping[str, float]) -> Ending:
    """The end before the last step that these actions ask for; to finish counts for more than to pause."""
    if Action.FINISH in actions:
        return Ending("stopped_early", step, metrics, f"finished at step {step} by its own rule")
    return paused(step, metrics, "at step")


def reason_to_end(actions: Action, *, last: bool) -> Reason | None:
    """Why nothing is left to do after a step; None while something is."""
    if last:
        return "completed"
    return "stopped_early" if Action.FINISH in actions else None
