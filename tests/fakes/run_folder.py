"""Run folders as a training process leaves them, without a training process."""

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ml_playground.core.atomic import append_lines, write_file
from ml_playground.core.checkpoint_format import step_folder_name
from ml_playground.core.checkpoint_manifest import FileRecord, manifest_text
from ml_playground.core.run_folder import RunFolder, runs_folder
from ml_playground.core.run_schema import Event, MetricRow, Result, Status

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONFIG: dict[str, Any] = {
    "name": "tiny",
    "optimizer": {"kind": "adamw", "lr": 0.001},
    "hooks": {"steer": {"kind": "control", "enabled": True}},
    "sample": {"prompts": ["<script>alert('prompt')</script>"]},
}


def bare_run(experiment: str = "tiny", run_id: str = "20260102-030405-abcd") -> RunFolder:
    """A run that has said nothing yet."""
    run = RunFolder(runs_folder() / experiment / run_id)
    write_file(run.config, json.dumps(CONFIG))
    return run


def put_status(run: RunFolder, **changes: Any) -> Status:
    """Its last word."""
    plain: dict[str, Any] = {
        "run": run.id,
        "state": "training",
        "pid": 1,
        "updated_at": NOW,
        "step": 20,
        "max_steps": 60,
        "targets": 1280.0,
        "loss": 2.5,
        "validation_loss": 2.4,
        "best_validation_loss": 2.25,
        "targets_per_s": 12_345.0,
        "elapsed_s": 725.0,
    }
    status = Status(**(plain | changes))
    write_file(run.status, status.model_dump_json())
    return status


def put_checkpoint(run: RunFolder, step: int) -> None:
    """A complete one, of no tensors."""
    counters = {"step": step, "max_steps": 60, "epoch": 0.5, "targets": 64.0, "elapsed_s": 1.5}
    progress = counters | {"metrics": None, "lr_factor": 1.0, "data_fingerprint": "abc"}
    files = {"progress.json": json.dumps(progress), "config.json": json.dumps(CONFIG), "hooks.json": "{}"}
    path = run.checkpoints / step_folder_name(step)
    for name, content in files.items():
        write_file(path / name, content)
    records = {
        name: FileRecord(size_bytes=len(content), sha256=hashlib.sha256(content.encode()).hexdigest())
        for name, content in files.items()
    }
    write_file(path / "MANIFEST.json", manifest_text(records))


def put_result(run: RunFolder, **changes: Any) -> None:
    """How its process left the loop."""
    plain: dict[str, Any] = {"reason": "completed", "step": 60, "max_steps": 60}
    write_file(run.result, Result(**(plain | changes)).model_dump_json())


def put_rows(run: RunFolder, steps: int, every: int = 10) -> None:
    """A loss that falls as 8 / step, evaluated and timed now and then."""
    for step in range(1, steps + 1):
        timed = step % every == 0
        values = {"loss": 8 / step, "grad_norm": 0.5, "lr": 1e-3, "targets": 64.0}
        timing = {"elapsed_s": step / 2, "targets_per_s": 128.0} if timed else {}
        rows = [MetricRow(kind="train", step=step, values=values, timing=timing)]
        if timed:
            rows.append(MetricRow(kind="evaluation", step=step, values={"loss": 9 / step, "bits_per_byte": 1.5}))
        append_lines(run.metrics, [row.model_dump_json() for row in rows])


def put_event(run: RunFolder, kind: str, step: int = 0, **data: Any) -> None:
    """Something that happened once."""
    append_lines(run.events, [Event(time=NOW, step=step, kind=kind, data=data).model_dump_json()])


def put_sample(run: RunFolder, step: int, text: str) -> None:
    """A text that the model wrote while it learned."""
    row = {"step": step, "prompt": "To be", "text": text}
    append_lines(run.samples / "live.jsonl", [json.dumps(row)])


def put_drawn(run: RunFolder, text: str, name: str) -> None:
    """A text that `mlp sample --json` drew."""
    write_file(run.samples / name, json.dumps({"step": 60, "texts": [{"prompt": "To be", "sample": 0, "text": text}]}))


@contextmanager
def held(run: RunFolder) -> Iterator[None]:
    """As if a process were training the run."""
    with run.lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
