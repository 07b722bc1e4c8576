"""`control/`: files that steer the run while it trains."""

import math
from pathlib import Path
from typing import ClassVar

from ml_playground.core.run_schema import ControlRequest, Reason, complaint
from ml_playground.core.values import NOTHING, Action, Progress, Wish
from ml_playground.training.hook_protocols import BaseHook, HookContext, StepEvent
from ml_playground.training.hooks.records import EventLog, Tell, tell_stderr
from ml_playground.training.settings import Control

ACTIONS = {"pause": Action.PAUSE, "stop": Action.FINISH, "save": Action.SAVE, "evaluate": Action.EVALUATE}


class ControlHook(BaseHook):
    """Looks into the folder now and then, takes the requests in the order of their names, and turns them into wishes."""

    steering: ClassVar[bool] = True

    def __init__(self, settings: Control, context: HookContext, tell: Tell = tell_stderr) -> None:
        self._every_seconds = settings.every_seconds
        self._context = context
        self._folder = context.run.control
        self._events = EventLog(context.run, context.clock, tell)
        self._tell = tell
        self._next_s = -math.inf
        self._unmovable: set[str] = set()

    def on_start(self, progress: Progress) -> None:
        """Drop what an earlier process was asked and did not live to do: it was not meant for this one."""
        if self._context.first_step:
            self._drop_all(progress.step)

    def on_step(self, event: StepEvent) -> Wish:
        """Take what lies there, if it is time to look."""
        now_s = self._context.clock.tick()
        if now_s < self._next_s:
            return NOTHING
        self._next_s = now_s + self._every_seconds
        return Wish.all_of(self._take(path, event.progress.step) for path in self._requests())

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """Drop what came too late, so that the next start does not pause at once."""
        self._drop_all(progress.step)

    def _requests(self) -> list[Path]:
        """Complete files only: what is being written has another name until it is whole."""
        try:
            names = sorted(
                path.name
                for path in self._folder.iterdir()
                if path.suffix == ".json" and not path.name.startswith(".") and path.name not in self._unmovable
            )
        except FileNotFoundError:
            return []
        return [self._folder / name for name in names]

    def _take(self, path: Path, step: int) -> Wish:
        """Read a request and remove its file; one that cannot be read is moved aside."""
        try:
            request = ControlRequest.model_validate_json(path.read_bytes())
            path.unlink()
        except ValueError as error:
            self._reject(path, step, complaint(error))
            return NOTHING
        except OSError as error:
            self._ignore(path, step, error)
            return NOTHING
        return self._wish(request, step)

    def _wish(self, request: ControlRequest, step: int) -> Wish:
        board = self._context.board
        if request.action == "sample" and not board.draws_samples:
            self._tell("asked for a sample, but the run has no samples hook")
            self._events.note("control", step, action=request.action, refused="the run has no samples hook")
            return NOTHING
        self._events.note("control", step, action=request.action, lr_factor=request.lr_factor)
        if request.action == "sample":
            board.sample_wanted = True
            return NOTHING
        return Wish(ACTIONS.get(request.action, Action.NONE), request.lr_factor)

    def _drop_all(self, step: int) -> None:
        for path in self._requests():
            try:
                path.unlink()
            except OSError as error:
                self._ignore(path, step, error)
            else:
                self._events.note("control_dropped", step, file=path.name)
                self._tell(f"the request {path.name} came when no process was training; it is dropped, ask again")

    def _reject(self, path: Path, step: int, reason: str) -> None:
        aside = path.with_name(f"{path.name}.rejected")
        try:
            path.replace(aside)
        except OSError as error:
            self._ignore(path, step, error)
            return
        self._events.note("control_rejected", step, file=aside.name, reason=reason)
        self._tell(f"a request to control the run is malformed and was moved to {aside}: {reason}")

    def _ignore(self, path: Path, step: int, error: OSError) -> None:
        """A file that cannot be read or removed would be obeyed at every look, so it is passed over from here on."""
        self._unmovable.add(path.name)
        self._events.note("control_rejected", step, file=path.name, reason=str(error))
        self._tell(f"the request {path} cannot be read or removed and is ignored: {error}")


def build(settings: Control, context: HookContext) -> ControlHook:
    """The hook."""
    return ControlHook(settings, context)
