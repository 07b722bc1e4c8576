"""A writer that is killed between any two of its file operations leaves the old content or the new one, nothing between."""

import json
from typing import Any

import pytest

from tests.faults.drivers import driven_in_memory


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What a driver found that killed the writers some 180 times."""
    # The law is about the order of operations, so the folder may lie in memory, where waiting for the disk costs nothing.
    return json.loads(driven_in_memory("tests.property.kill_driver").stdout)


@pytest.mark.parametrize(
    ("scenario", "least_operations"),
    [
        ("first", 25),
        ("rotating", 40),
        ("replacing_the_only_one", 40),
        ("write_file", 4),
        # Here the kills in the middle of a file are counted.
        ("inside_a_file", 6),
    ],
)
def test_kill_between_any_two_operations_leaves_old_or_new(
    report: dict[str, Any], scenario: str, least_operations: int
) -> None:
    """`latest` is whole after every kill, the next save works, and no leftovers stay."""
    assert report[scenario]["faults"] == []
    assert report[scenario]["exit_code"] == 0
    assert report[scenario]["operations"] >= least_operations
