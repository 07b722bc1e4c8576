"""Checking data at sizes beyond memory: what it holds does not grow with the file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

# What Python, numpy and pydantic take before the first row is read, and 8 MiB for each of two tables, three times while one is written.
MOST_MB = 200.0


@pytest.mark.long
def test_peak_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """50 and 200 MB of texts and of rows, 5 and 20 of one row over and over; the script prints the same at 2 GB."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "data_check.py"), "--quick", "--json", str(figures)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    (table,) = json.loads(figures.read_text())
    peaks: dict[str, list[float]] = {}
    for kind, _, _, _, peak, _ in (row["cells"] for row in table["rows"]):
        peaks.setdefault(kind, []).append(peak)
    assert len(peaks) == 3
    for small, large in peaks.values():
        assert large < MOST_MB
        assert large < small + 48
