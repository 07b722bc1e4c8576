"""SIGKILL between any two file operations: readers find whole files, and the next start finds everything that was promised."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.faults.conftest import MEMORY_DISK, Tried

ROOT = Path(__file__).parents[2]
QUICK = 113
"""Before every 113th operation of the run and every 15th of a preparation: not always the same file of a checkpoint."""


def killed(every: int) -> dict[str, Any]:
    """What the driver found. The law is about the order of operations, so the folder may lie in memory, where no disk is waited for."""
    with TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None) as folder:
        words = [sys.executable, "-m", "tests.faults.kills", folder, str(every)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(report: dict[str, Any], tried: Tried) -> None:
    """No fault after any kill; and kills there were."""
    assert [(name, fault) for name, part in report.items() for fault in part["faults"]] == []
    for name, part in report.items():
        assert part["kills"] > 0, name
        tried(f"killed before a file operation of: {name}", part["kills"])
    assert report["run"]["operations"] > 150
    assert report["prepare"]["operations"] > 25
    assert report["status"]["operations"] > 5


def test_run_preparation_and_status_killed_before_some_operations_go_on_as_if_nothing_had_happened(
    tried: Tried,
) -> None:
    """Equal bits, equal rows, no leftovers."""
    check(killed(QUICK), tried)


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_run_preparation_and_status_killed_before_every_operation_go_on_as_if_nothing_had_happened(
    tried: Tried,
) -> None:
    """The same for each open, write, flush, fsync, rename and unlink."""
    check(killed(1), tried)
