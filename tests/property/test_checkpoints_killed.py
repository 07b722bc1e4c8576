"""A writer that is killed between any two of its file operations leaves the old content or the new one, nothing between."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

DRIVER = Path(__file__).with_name("kill_driver.py")
MEMORY_DISK = Path("/dev/shm")


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What a driver found that killed the writers some 180 times."""
    # The law is about the order of operations, so the folder may lie in memory, where waiting for the disk costs nothing.
    with TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None) as folder:
        done = subprocess.run([sys.executable, str(DRIVER), folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("scenario", "least_operations"),
    [
        ("first", 25),
        ("rotating", 40),
        ("replacing_the_only_one", 40),
        ("write_file", 4),
        # Here the kills that came in the middle of a file are counted; a late one may find it whole.
        ("inside_a_file", 3),
    ],
)
def test_kill_between_any_two_operations_leaves_old_or_new(
    report: dict[str, Any], scenario: str, least_operations: int
) -> None:
    """`latest` is whole after every kill, the next save works, and no leftovers stay."""
    assert report[scenario]["faults"] == []
    assert report[scenario]["exit_code"] == 0
    assert report[scenario]["operations"] >= least_operations
