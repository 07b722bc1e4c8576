"""A hook at which a run stands still, until somebody has done in its midst what he wants to do; as a kind that a job can name."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Event, Thread
from typing import ClassVar, Literal

from ml_playground.configuration import families
from ml_playground.configuration.base import HookSettings
from ml_playground.core.registry import Kind
from ml_playground.core.values import NOTHING, Wish
from ml_playground.training.hook_protocols import BaseHook, HookContext, StepEvent

HERE = "tests.fakes.halting"
MOST_S = 600.0
"""Against a hang alone."""

_reached, _done = Event(), Event()


class Halt(HookSettings):
    """Stands still behind a step."""

    kind: Literal["halt"] = "halt"
    """Halt."""
    at_step: int = 1
    """Behind which it stands still."""


class HaltHook(BaseHook):
    """Says that the step is reached, and waits."""

    steering: ClassVar[bool] = True

    def __init__(self, settings: Halt, context: HookContext) -> None:
        self._at_step = settings.at_step

    def on_step(self, event: StepEvent) -> Wish:
        """Stand still, in the process in which somebody acts."""
        if event.progress.step == self._at_step:
            _reached.set()
            _done.wait(MOST_S)
        return NOTHING


def build(settings: Halt, context: HookContext) -> HaltHook:
    """The hook."""
    return HaltHook(settings, context)


@contextmanager
def halting() -> Generator[None]:
    """Inside, a job can name this kind."""
    families.HOOKS.add("halt", Kind(f"{HERE}:Halt", f"{HERE}:build"), HERE)
    try:
        yield
    finally:
        del families.HOOKS._named["halt"]


@contextmanager
def meanwhile(act: Callable[[], object]) -> Generator[None]:
    """Do something beside the block while the run that is trained in it stands still."""
    _reached.clear()
    _done.clear()

    def at_the_halt() -> None:
        try:
            if _reached.wait(MOST_S):
                act()
        finally:
            _done.set()

    other = Thread(target=at_the_halt)
    other.start()
    try:
        yield
    finally:
        # A run that never came so far is not waited for.
        _reached.set()
        other.join()
