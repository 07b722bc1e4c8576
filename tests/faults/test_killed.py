"""SIGKILL between any two file operations: readers find whole files, and the next start finds everything that was promised."""

import json
from typing import Any

import pytest

from tests.faults.conftest import Tried
from tests.faults.drivers import driven_in_memory

QUICK = 113
"""Before every 113th operation of the run and every 15th of a preparation: not always the same file of a checkpoint."""


def killed(every: int) -> dict[str, Any]:
    """What the driver found. The law is about the order of operations, so the folder may lie in memory."""
    return json.loads(driven_in_memory("tests.faults.kills", str(every)).stdout)


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
