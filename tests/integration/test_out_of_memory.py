"""A run on a machine that has less memory than a whole micro-batch needs: for real, under a limit on the process."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ml_playground.core.deps import Deps
from ml_playground.core.torch_tensors import read_tensors
from ml_playground.data_pipeline.preparer import prepare
from tests.fakes.tiny_job import tiny_job
from tests.faults.drivers import driven

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the limit on a process's memory")


def ending(run: Path) -> dict[str, Any]:
    """What the run said."""
    return json.loads((run / "ended.json").read_text())


def test_run_short_of_memory_says_what_to_change_or_splits_and_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole batches fit no more, halves do: `stop` ends with the numbers to set, `split` ends with the weights of a run that had room."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "home"))
    job = tiny_job(
        tmp_path,
        data={"sequence_tokens": 64, "micro_batch_rows": 256},
        model={"n_embd": 64},
        train={"max_steps": 2, "evaluate_every_steps": 2, "evaluation_batches": 1, "log_every_steps": 1},
        schedule={"warmup_steps": 1},
        runtime={
            "attention": "math",
            "compile": False,
            "activation_checkpointing": False,
            "allocator": "system",
            "flight_check": False,
        },
    )
    prepare(job.prepare, Deps())
    (tmp_path / "job.json").write_text(job.model_dump_json())
    done = driven("tests.integration.narrow_memory", str(tmp_path), timeout_s=600)
    runs = tmp_path / "home" / "runs" / "tiny"
    assert ending(runs / "roomy")["reason"] == "completed"
    stopped = ending(runs / "stopped")
    assert stopped["reason"] == "out_of_memory"
    assert "data.micro_batch_rows = 128 and train.micro_batches_per_step = 2 (they are 256 and 1)" in stopped["message"]
    assert ending(runs / "split")["reason"] == "completed"
    noted = [json.loads(line) for line in (runs / "split" / "events.jsonl").read_text().splitlines()]
    splits = [event["data"] for event in noted if event["kind"] == "split"]
    assert {"phase": "training", "step": 1, "parts": 2}.items() <= splits[0].items()
    assert "step 1: training ran out of memory" in done.stderr
    ends = [
        read_tensors(runs / name / "checkpoints" / "step_000002" / "model.safetensors") for name in ("roomy", "split")
    ]
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, rtol=0, atol=2e-5)
