"""Checking data at sizes beyond memory: what it holds does not grow with the file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

# What Python, numpy and pydantic take before the first row is read, and 16 MiB for each of two tables, twice while one is written.
MOST_MB = 260.0


@pytest.mark.long
def test_peak_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """50 and 200 MB of texts and of rows, each in a process of its own; the script prints the same at 2 GB."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "data_check.py"), "--quick", "--json", str(figures)]
    subprocess.run(command, check=True, capture_output=True, timeout=280)
    (table,) = json.loads(figures.read_text())
    peaks = {(kind, size > 100): peak for kind, size, _, _, peak, _ in (row["cells"] for row in table["rows"])}
    assert len(peaks) == 4
    assert max(peaks.values()) < MOST_MB
    assert all(peaks[kind, True] < peaks[kind, False] + 64 for kind in ("text", "rows"))
