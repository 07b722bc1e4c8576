"""Signals at any moment, two processes on one run, a reader that never rests."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Tried
from tests.faults.drivers import driven_in_memory


def found(count: int) -> dict[str, Any]:
    """What the driver found with so many signals."""
    return json.loads(driven_in_memory("tests.faults.processes", str(count)).stdout)


def check(report: dict[str, Any], count: int, tried: Tried) -> None:
    """Every stop is clean, and every next start ends with the same bits."""
    stops = [(name, one) for name, reports in report["signals"].items() for one in reports]
    assert [(name, fault) for name, one in stops for fault in one["faults"]] == []
    assert any(one["stopping"] for _, one in stops)
    assert report["preparations"] == []
    assert report["long evaluations"]["faults"] == []
    assert report["rivals"] == []
    assert report["twins"] == []
    assert report["unread"] == []
    reader = report["reader"]
    assert (reader["faults"], reader["missing"]) == ([], 0)
    assert reader["steps seen"] > 10
    assert reader["reads"] > 100
    tried("SIGINT or SIGTERM while training", len(stops))
    tried("SIGINT or SIGTERM while preparing", count)
    tried("SIGINT or SIGTERM in an evaluation that takes long", report["long evaluations"]["signals"])
    tried("two processes begin one run", max(2, count // 4))
    tried("two processes are told to train one experiment", max(2, count // 4))
    tried("stderr that nobody reads", 2)
    tried("reads of a status that is being written", reader["reads"])


def test_signals_rivals_and_readers_leave_a_whole_run(tried: Tried) -> None:
    """A checkpoint at the next step boundary, exit code 0, the same bits as a run that nobody disturbed."""
    check(found(2), 2, tried)


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_many_signals_rivals_and_readers_leave_a_whole_run(tried: Tried) -> None:
    """The same at many more moments."""
    check(found(40), 40, tried)


@pytest.mark.usefixtures("uncovered")
@pytest.mark.long
@pytest.mark.timeout(600)
def test_signals_to_a_program_that_still_imports_are_clean(tmp_path: Path, tried: Tried) -> None:
    """The real command, from its first instruction on: Python starts, torch is imported, the run begins."""
    from tests.fakes.tiny_job import tiny_job
    from tests.faults.processes import CONFIG

    experiment = tmp_path / "experiment"
    experiment.mkdir()
    tiny_job(tmp_path)
    (experiment / "config.toml").write_text(CONFIG)
    mlp = [sys.executable, "-m", "ml_playground.cli"]
    subprocess.run([*mlp, "prepare", str(experiment)], check=True, capture_output=True)
    for number in range(20):
        word = (2, 15)[number % 2]
        with subprocess.Popen(
            [*mlp, "train", str(experiment), "--fresh"], stderr=subprocess.PIPE, text=True
        ) as program:
            try:
                program.wait(0.2 + 0.2 * number)
            except subprocess.TimeoutExpired:
                program.send_signal(word)
            code = program.wait(60)
            said = program.stderr.read() if program.stderr else ""
        assert code in (0, 130, -word), said
        # Before the command is read Python itself answers, with where it was.
        assert "Traceback" not in said or code == -word, said
        tried("SIGINT or SIGTERM while the program starts")
    done = subprocess.run([*mlp, "train", str(experiment)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
