"""`ExternalSort` where it cannot go on; its laws stand in tests/property/test_fingerprints_laws.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SORTED = """
import resource
import sys
import numpy as np
from ml_playground.core.error_handling import StorageError
from ml_playground.data_pipeline.checks.external_sort import ExternalSort, Sizes
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
try:
    with ExternalSort(np.dtype([("row", "<u8")]), ["row"], Sizes(run_bytes=8_000)) as sort:
        for _ in range(20):
            sort.add(bytes(800))
except StorageError as error:
    sys.exit(str(error))
"""


@pytest.mark.usefixtures("uncovered")
@pytest.mark.parametrize("room", [100, 7_999, 8_100])
def test_full_disk_is_told_with_the_folder_that_is_full_and_what_moves_it(tmp_path: Path, room: int) -> None:
    """Also where only the last bytes of a run do not fit, which a buffer would try to write once more at the end."""
    done = subprocess.run(
        [sys.executable, "-c", SORTED, str(room)],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.startswith(f"Could not write {tmp_path / 'fingerprints'}: the file would be larger than allowed")
    assert "or set TMPDIR to a folder on another disk. Nothing half-written was left.\n" in done.stderr
    assert list(tmp_path.iterdir()) == []
