"""Children of a process that has imported everything already: made in milliseconds, killed before any of their file operations.

Nothing here runs a torch operation before it forks: threads would not survive it.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.forked import ended, in_child

from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import read_lines
from ml_playground.core.checkpoint_format import latest, steps_in
from ml_playground.core.checkpoint_manifest import verify
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import MetricRow
from ml_playground.monitoring.reader import read_result, read_status
from ml_playground.training.engine import run_job
from ml_playground.training.resume import Choice

OF_MODULES = {
    *("open", "write", "pwrite", "fsync", "flock", "truncate", "ftruncate"),
    *("mkdir", "rename", "replace", "unlink", "remove", "rmdir"),
}
OF_STREAMS = {"write", "flush", "truncate", "close"}
KILLED = -signal.SIGKILL


def is_file_operation(function: Any) -> bool:
    """Whether a function of C changes a file, opens one, or waits until it is on the disk."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, io.IOBase):
        return function.__name__ in OF_STREAMS
    return getattr(owner, "__name__", "") in {"posix", "_io", "fcntl"} and function.__name__ in OF_MODULES


class Operations:
    """Counts the file operations of this process from now on, on every thread, and kills it just before one of them."""

    def __init__(self, die_before: int | None) -> None:
        self.count = 0
        self._die_before = die_before
        threading.setprofile(self._count)
        sys.setprofile(self._count)

    def _count(self, _frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and is_file_operation(function):
            if self.count == self._die_before:
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1


def operations_of(action: Callable[[], object], die_before: int | None = None) -> tuple[int, int]:
    """The exit code of a child that acts, and how many file operations it did; killed before number `die_before`."""
    reading, writing = os.pipe()

    def counted() -> None:
        operations = Operations(die_before)
        action()
        sys.setprofile(None)
        os.write(writing, str(operations.count).encode())

    child = in_child(counted)
    os.close(writing)
    said = os.read(reading, 100)
    os.close(reading)
    return ended(child), int(said or 0)


def trained(job: JobConfig, run: RunFolder) -> None:
    """Begin or go on with a run, to its end."""
    run_job(job, Deps(), Choice("resume", run))


def rows_of(run: RunFolder) -> list[Any]:
    """The columns of `metrics.jsonl` that do not depend on the clock, and the samples."""
    rows = [MetricRow.model_validate_json(line) for line in read_lines(run.metrics)]
    return [(row.kind, row.step, dict(row.values)) for row in rows] + read_lines(run.samples / "live.jsonl")


def tensors_of(run: RunFolder) -> dict[str, bytes]:
    """The files of tensors of the newest checkpoint, by name."""
    newest = latest(run.checkpoints)
    assert newest is not None, f"{run.path} has no checkpoint"
    return {path.name: path.read_bytes() for path in sorted(newest.path.glob("*.safetensors"))}


def faults_after_a_kill(run: RunFolder) -> list[str]:
    """What no reader must ever find, whenever the writer was killed."""
    found: list[str] = []
    for path in steps_in(run.checkpoints).values():
        verify(path)
    for line in read_lines(run.metrics):
        MetricRow.model_validate_json(line)
    read_status(run)
    result = read_result(run)
    if result is not None and latest(run.checkpoints) is None:
        found.append("there is a result, but no checkpoint")
    return found


def faults_of_a_resumed(run: RunFolder, whole: RunFolder, *, saved_more: bool = False) -> list[str]:
    """In what a run that was killed and resumed differs from one that was left alone.

    `saved_more`: it was asked to stop, and so has a checkpoint of that step, in the place of another.
    """
    found: list[str] = []
    if rows_of(run) != rows_of(whole):
        found.append("its rows differ")
    if tensors_of(run) != tensors_of(whole):
        found.append("its tensors differ")
    # One of a small file may stay where nothing was left to write: the next writer of that file clears it away.
    left = [path.name for place in (run.path, run.checkpoints) for path in place.glob(".*.partial") if path.is_dir()]
    if left:
        found.append(f"it leaves {left}")
    if not saved_more and steps_in(run.checkpoints).keys() != steps_in(whole.checkpoints).keys():
        found.append("its checkpoints are of other steps")
    result = read_result(run)
    if result is None or result.reason != "completed":
        found.append(f"its result is {result}")
    return found


def emptied(folder: Path) -> Path:
    """A folder that exists and is empty."""
    folder.mkdir(parents=True)
    return folder
