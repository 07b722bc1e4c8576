"""Programs of the tests that fork: run apart, for a process that has made torch operations cannot be forked."""

import subprocess
import sys
from tempfile import TemporaryDirectory

from tests.architecture.source import ROOT
from tests.faults.conftest import MEMORY_DISK


def driven(module: str, *words: str, timeout_s: float | None = None) -> "subprocess.CompletedProcess[str]":
    """What a driver said; one that fails is a failure of the test, with all that it said."""
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout_s)
    assert done.returncode == 0, done.stderr
    return done


def driven_in_memory(module: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """The same over a folder that is its first word: it may lie in memory, where no disk is waited for."""
    with TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None) as folder:
        return driven(module, folder, *words)
