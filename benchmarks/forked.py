"""Processes that are forked from one that has torch loaded, so that a start costs milliseconds; for `kill_and_resume.py` and tests.

Whoever forks must not run a torch operation itself: its threads would not survive it.
"""

import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import read_lines
from ml_playground.core.registry import load_object

LEAVES_WITHIN_S = 600.0
"""After SIGTERM and SIGINT: against a hang alone, for a machine that is shared may be elsewhere for minutes."""
POLL_S = 0.0005
TOLD_LINES = 6


class ChildError(Exception):
    """A process ended in a way that nobody asked for, or did not end although it was asked."""


def load_all(job: JobConfig) -> None:
    """Import what each child would import when it first needs it, a second and a half of it."""
    importlib.import_module("torch._dynamo")
    importlib.import_module("ml_playground.training.engine")
    rows = [
        families.DATA[job.data.kind_name],
        families.MODELS[job.model.kind_name],
        families.OBJECTIVES[job.objective.kind_name],
        families.OPTIMIZERS[job.optimizer.kind_name],
        families.SCHEDULES[job.schedule.kind_name],
        # Not every objective draws.
        *(preview for kind, preview in families.PREVIEWS.items() if kind == job.objective.kind_name),
        *(families.HOOKS[hook.kind_name] for hook in job.hooks.values()),
        *(families.ADAPTERS[adapter.kind_name] for adapter in [getattr(job.model, "adapter", None)] if adapter),
    ]
    for path in (families.MODELS[job.model.kind_name].cost, *(row.build for row in rows)):
        load_object(path)


def in_child(action: Callable[[], int | None], log: Path | None = None) -> int:
    """The process id of a child that acts, and exits with what the action returns; 1 where it fails, its traceback on stderr.

    `log`: takes what it says, in the place of the terminal.
    """
    # A Ctrl-C that comes before the child can answer it is not lost, and does not lead into the parent's code.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return child
    code = 1
    try:
        # Coverage takes a lock that a Ctrl-C in its midst leaves taken for ever; what it counts here is lost at os._exit anyway.
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if log is not None:
            written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(written, 1)
            os.dup2(written, 2)
        code = action() or 0
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    finally:
        # The child must not go on into the parent's code, whatever happened.
        if code == 1 and (error := sys.exc_info()[1]) is not None:
            os.write(2, "".join(traceback.format_exception(error)).encode())
        os._exit(code)


def ended(child: int) -> int:
    """Wait for a child; its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Child:
    """A forked process, watched by the files that it writes."""

    def __init__(self, action: Callable[[], int], log: Path) -> None:
        self._log = log
        self._status: int | None = None
        self._began_s = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        self._pid = in_child(action, log)

    @property
    def seconds(self) -> float:
        """Since it was forked."""
        return time.monotonic() - self._began_s

    def ended(self) -> bool:
        """Whether it is over."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None

    def wait(self, moment: Callable[[], bool] = lambda: False) -> bool:
        """Wait for a moment; false when it ended before."""
        while not self.ended():
            if moment():
                return True
            time.sleep(POLL_S)
        return False

    def send(self, name: str) -> None:
        """Send a signal of `SIGNALS`, and wait for the end."""
        first, _, twice = name.partition(" ")
        number = signal.Signals[first]
        os.kill(self._pid, number)
        if twice and self._outlives(0.002):
            os.kill(self._pid, number)
        if self._outlives(LEAVES_WITHIN_S):
            self.kill()
            raise ChildError(f"did not leave within {LEAVES_WITHIN_S:.0f} s of {name}")
        self.check(-number, 128 + signal.SIGINT)

    def _outlives(self, seconds: float) -> bool:
        until_s = self.seconds + seconds
        return self.wait(lambda: self.seconds >= until_s)

    def kill(self) -> None:
        """Whatever it is doing."""
        if not self.ended():
            os.kill(self._pid, signal.SIGKILL)
            self.wait()

    def finish(self) -> None:
        """Wait until it has ended well."""
        self.wait()
        self.check()

    def check(self, *asked: int) -> None:
        """Refuse any end but 0 and those that were asked for."""
        code = os.waitstatus_to_exitcode(self._status or 0)
        if code not in (0, *asked):
            raise ChildError(f"ended with {code}: {' / '.join(read_lines(self._log)[-TOLD_LINES:])}")
