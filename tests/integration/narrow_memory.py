"""Trains a job with all the memory there is, then with less than a whole batch needs; started by test_out_of_memory.

Each attempt is a forked child. Nothing here runs a torch operation before the last fork.
"""

import ctypes
import json
import os
import resource
import sys
from pathlib import Path
from typing import ClassVar, Literal

from benchmarks.forked import ended, in_child

from ml_playground.configuration import families
from ml_playground.configuration.base import HookSettings
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.process_memory import forget_peak, peak_bytes, resident_bytes
from ml_playground.core.registry import Kind
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import Reason
from ml_playground.core.values import Progress
from ml_playground.training.engine import run_job
from ml_playground.training.hook_protocols import BaseHook, HookContext
from ml_playground.training.resume import Choice

HERE = "tests.integration.narrow_memory"
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""Of glibc's mallopt."""
SHARE = 0.65
"""Of what whole batches take: one that is halved once fits into 0.5 to 0.85 of it."""


class NarrowMemory(HookSettings):
    """Takes memory away from the moment at which the loop begins."""

    kind: Literal["narrow_memory"] = "narrow_memory"
    """Narrow memory."""
    least_bytes: int = 0
    """What may still be allocated; 0: everything."""


class NarrowMemoryHook(BaseHook):
    """Sets the limit, and says how much the training took."""

    steering: ClassVar[bool] = True

    def __init__(self, settings: NarrowMemory, context: HookContext) -> None:
        self._settings = settings
        self._report = context.run.path / "growth.txt"
        self._before = 0

    def on_start(self, progress: Progress) -> None:
        """Parts are built; what comes now is training."""
        # The limit below counts addresses, and must mean memory. Each new thread would map 64 MB of its own without using them; and
        # tensors among the small blocks would keep their addresses when they go, which oneDNN then misses for its code.
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, 128 << 10)
        forget_peak()
        self._before = resident_bytes() or 0
        if self._settings.least_bytes:
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + self._settings.least_bytes, resource.RLIM_INFINITY))

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """Bytes."""
        self._report.write_text(str((peak_bytes() or 0) - self._before))


def build(settings: NarrowMemory, context: HookContext) -> NarrowMemoryHook:
    """The hook."""
    return NarrowMemoryHook(settings, context)


def main(folder: Path) -> None:
    """Three runs: with all memory, with too little, and with too little but splitting."""
    os.environ["MLP_HOME"] = str(folder / "home")
    families.HOOKS.add("narrow_memory", Kind(f"{HERE}:NarrowMemory", f"{HERE}:build"), HERE)
    plain = json.loads((folder / "job.json").read_text())
    runs = folder / "home" / "runs" / plain["name"]

    def train(name: str, policy: str, least_bytes: int) -> None:
        narrow = {"kind": "narrow_memory", "least_bytes": least_bytes}
        job = plain | {
            "hooks": plain["hooks"] | {"narrow": narrow},
            "runtime": plain["runtime"] | {"on_out_of_memory": policy},
        }
        wanted = JobConfig.model_validate_json(json.dumps(job))
        if ended(in_child(lambda: _run(wanted, RunFolder(runs / name)))):
            raise SystemExit("an attempt failed")

    train("roomy", "stop", 0)
    least_bytes = int(SHARE * int((runs / "roomy" / "growth.txt").read_text()))
    train("stopped", "stop", least_bytes)
    train("split", "split", least_bytes)


def _run(job: JobConfig, run: RunFolder) -> None:
    result = run_job(job, Deps(), Choice("resume", run))
    (run.path / "ended.json").write_text(json.dumps({"reason": result.reason, "message": result.message}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
