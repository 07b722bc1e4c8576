"""`control/`: files that steer the run while it trains."""

import math
from pathlib import Path
from typing import ClassVar

from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import StorageError
from ml_playground.core.foreign_files import read_at_most
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import ControlRequest, Reason, complaint
from ml_playground.core.values import NOTHING, Action, Progress, Wish
from ml_playground.training.hook_protocols import BaseHook, HookContext, StepEvent
from ml_playground.training.hooks.records import EventLog, Tell, tell_stderr
from ml_playground.training.settings import Control

MOST_BYTES = 1 << 16
"""Of a request; one that was written by `mlp control` has a hundred."""

ACTIONS = {"pause": Action.PAUSE, "stop": Action.FINISH, "save": Action.SAVE, "evaluate": Action.EVALUATE}

REPEATED = ("pause", "stop", "save")
"""Is asked of the process, whatever its step; all else is noted by step in the journal, and done again with the step."""


class ControlHook(BaseHook):
    """Looks into the folder now and then, takes the requests in the order of their names, and turns them into wishes."""

    steering: ClassVar[bool] = True

    def __init__(self, settings: Control, context: HookContext, tell: Tell = tell_stderr) -> None:
        self._every_seconds = settings.every_seconds
        self._context = context
        self._events = EventLog(context.run, context.clock, tell)
        self._tell = tell
        self._next_s = -math.inf
        self._unmovable: set[str] = set()
        self._undone: dict[Path, ControlRequest] = {}
        """Taken, with nothing to show for it: a run that goes back takes them again."""
        self._step = context.first_step

    def on_step(self, event: StepEvent) -> Wish:
        """Take what lies there, if it is time to look."""
        self._step = event.progress.step
        now_s = self._context.clock.tick()
        if now_s < self._next_s:
            return NOTHING
        self._next_s = now_s + self._every_seconds
        return Wish.all_of(self._take(path, event.progress.step) for path in self._requests())

    def on_saved(self, progress: Progress, reference: str) -> None:
        """Who asked for a save has one."""
        self._undone = {path: request for path, request in self._undone.items() if request.action != "save"}

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """Drop what came too late, so that the next start does not pause at once; a run that goes on by itself finds it.

        With what was taken for a step that is undone: to pause, stop or save. All else is in the journal.
        """
        if reason is not None or error is not None:
            drop_requests(self._context.run, self._events, progress.step, self._tell)
            return
        for path, request in self._undone.items():
            try:
                write_file(path, request.model_dump_json(), durable=False)
            except StorageError as failed:
                self._tell(f"the request to {request.action} is lost, for its step is undone; ask again: {failed}")

    def _requests(self) -> list[Path]:
        try:
            found = complete_requests(self._context.run)
        except OSError as error:
            self._ignore(self._context.run.control, self._step, error)
            return []
        return [path for path in found if path.name not in self._unmovable]

    def _take(self, path: Path, step: int) -> Wish:
        """Read a request and remove its file; one that cannot be read is moved aside."""
        try:
            request = ControlRequest.model_validate_json(read_at_most(path, MOST_BYTES))
            path.unlink()
        except ValueError as error:
            self._reject(path, step, complaint(error))
            return NOTHING
        except OSError as error:
            self._ignore(path, step, error)
            return NOTHING
        return self._wish(path, request, step)

    def _wish(self, path: Path, request: ControlRequest, step: int) -> Wish:
        board = self._context.board
        if request.action == "sample" and not board.draws_samples:
            self._tell("asked for a sample, but the run has no samples hook")
            self._events.note("control", step, action=request.action, refused="the run has no samples hook")
            return NOTHING
        self._events.note("control", step, action=request.action, lr_factor=request.lr_factor)
        if request.action == "sample":
            board.sample_wanted = True
            return NOTHING
        if request.action in REPEATED:
            self._undone[path] = request
        return Wish(ACTIONS.get(request.action, Action.NONE), request.lr_factor)

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
        if path.name in self._unmovable:
            return
        self._unmovable.add(path.name)
        self._events.note("control_rejected", step, file=path.name, reason=str(error))
        self._tell(f"the request {path} cannot be read or removed and is ignored: {error}")


def complete_requests(run: RunFolder) -> list[Path]:
    """The requests to a run in the order of their names; what is being written has another name until it is whole.

    Raises:
        OSError: The folder is there but cannot be read.
    """
    try:
        return sorted(path for path in run.control.iterdir() if path.suffix == ".json" and path.name[0] != ".")
    except FileNotFoundError:
        return []


def drop_requests(run: RunFolder, events: EventLog, step: int, tell: Tell = tell_stderr) -> None:
    """Drop what came when no process was training: a pause that was meant for an earlier one must not stop the next."""
    try:
        for path in complete_requests(run):
            path.unlink()
            events.note("control_dropped", step, file=path.name)
            tell(f"the request {path.name} came when no process was training; it is dropped, ask again")
    except OSError as error:
        tell(f"requests in {run.control} cannot be read or removed and are ignored: {error}")


def build(settings: Control, context: HookContext) -> ControlHook:
    """The hook."""
    return ControlHook(settings, context)
