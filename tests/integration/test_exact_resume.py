"""The first promise: a run that is killed anywhere and resumed ends with the same bits as one that was not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml_playground.configuration.loading import list_experiments

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_and_resume.py"
CYCLES = 20

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cycles(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Twenty runs, killed at random moments and resumed: what was done to each, and what differed."""
    folder = tmp_path_factory.mktemp("killed")
    words = [sys.executable, str(SCRIPT), "--quick", "--cycles", str(CYCLES), "--seed", "7", "--folder", str(folder)]
    # Minutes of work: what is against a hang is the limit on the test itself.
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in (folder / "cycles-7.jsonl").read_text().splitlines()]


def test_runs_killed_at_random_moments_and_resumed_end_with_the_same_bits(cycles: list[dict[str, Any]]) -> None:
    """SIGKILL between any two instructions, SIGTERM and SIGINT: every row, tensor and hook's state is as if nothing had happened."""
    assert [cycle["problem"] for cycle in cycles] == [""] * CYCLES
    assert all(cycle["kills"] for cycle in cycles)


def test_kills_come_in_every_way_to_every_experiment_and_variant(cycles: list[dict[str, Any]]) -> None:
    """A campaign that never hit a save, or never met Muon, would prove little."""
    kills = [kill for cycle in cycles for kill in cycle["kills"]]
    assert {kill["signal"].partition(" ")[0] for kill in kills} == {"SIGKILL", "SIGTERM", "SIGINT"}
    assert any(kill["in_save"] and kill["signal"] == "SIGKILL" for kill in kills)
    assert any(kill["saved_step"] == 0 for kill in kills)
    assert {cycle["experiment"] for cycle in cycles} == {one.name for one in list_experiments() if one.shipped}
    variants = {"AdamW", "Muon", "averaged weights", "dropout, accumulation", "bfloat16", "early stopping"}
    variants |= {"LSTM", "minimal GRU, Muon"}
    assert {cycle["variant"] for cycle in cycles} == variants
