"""The first promise: a run that is killed anywhere and resumed ends with the same bits as one that was not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml_playground.core.run_folder import RunFolder
from tests.fakes.tiny_job import tiny_job

DRIVER = Path(__file__).with_name("kill_and_resume.py")

JOBS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "dropout, accumulation, averaged weights": {
        "model": {"dropout": 0.2},
        "train": {"micro_batches_per_step": 2, "ema_decay": 0.95},
    },
    "early stopping": {
        "hooks": {"stop": {"kind": "early_stopping", "patience": 2, "min_delta": 0.4}},
        "train": {"evaluate_every_steps": 6},
    },
    "muon": {"optimizer": {"kind": "muon", "lr": 0.01}},
    "bfloat16": {"runtime": {"dtype": "bfloat16"}},
}


def rows_of(run: RunFolder) -> list[Any]:
    """The columns of `metrics.jsonl` that do not depend on the clock."""
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [(row["kind"], row["step"], row["values"]) for row in rows]


@pytest.mark.parametrize("name", JOBS)
def test_run_killed_at_random_moments_and_resumed_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    """SIGKILL between any two instructions, also in the middle of a save: equal weights, optimizer state, losses; no step missing."""
    job = tiny_job(tmp_path, **JOBS[name])
    (tmp_path / "job.json").write_text(job.model_dump_json())
    reply = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path)], capture_output=True, text=True, check=False, timeout=200
    )
    assert reply.returncode == 0, reply.stderr
    told = json.loads(reply.stdout.splitlines()[-1])
    whole, killed = RunFolder(Path(told["whole"])), RunFolder(Path(told["killed"]))
    assert told["kills"] >= (1 if name == "early stopping" else 3)
    assert told["kills_in_a_save"] >= 1
    steps = [step for kind, step, _ in rows_of(killed) if kind == "train"]
    assert steps == list(range(1, len(steps) + 1))
    assert rows_of(killed) == rows_of(whole)
    last = max(path.name for path in whole.checkpoints.iterdir())
    assert max(path.name for path in killed.checkpoints.iterdir()) == last
    tensors = sorted(path.name for path in (whole.checkpoints / last).glob("*.safetensors"))
    assert {"model.safetensors", "optimizer.safetensors"} <= set(tensors)
    for tensor in tensors:
        assert (killed.checkpoints / last / tensor).read_bytes() == (whole.checkpoints / last / tensor).read_bytes()
