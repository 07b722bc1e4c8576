"""A run on disk as a training leaves it: real data, a real tiny model with random weights, real checkpoints; in a second."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import RunFolder, runs_folder
from ml_playground.core.values import ModelContext, Progress
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.checkpoint_protocols import Snapshot
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from tests.fakes.saving import save

TEXT = "".join(f"{number} green bottles, hanging on the wall;\n" for number in range(40))


def job_of(folder: Path, *, name: str = "bottles", tokenizer: str = "char", **sections: Any) -> JobConfig:
    """A job over `TEXT`, whose model has one block of width 8 and a context of 16."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "text.txt"
    if not source.exists():
        source.write_text(TEXT, encoding="utf-8")
    table: dict[str, Any] = {
        "name": name,
        "prepare": {"source": {"kind": "text_file", "path": str(source)}, "tokenizer": {"kind": tokenizer}},
        "data": {"kind": "token_windows", "sequence_tokens": 16, "micro_batch_rows": 4},
        "model": {"kind": "gpt", "n_layer": 1, "n_head": 2, "n_embd": 8},
        "objective": {"kind": "next_token"},
        "optimizer": {"kind": "adamw"},
        "schedule": {"kind": "warmup_cosine", "warmup_steps": 1},
        "train": {"max_steps": 20},
        "checkpointing": {"keep_last": 9},
        "runtime": {"device": "cpu", "dtype": "float32", "attention": "math"},
        "sample": {"prompts": ["green"], "num_samples": 1, "max_new_tokens": 12},
    }
    for section, values in sections.items():
        table[section] = {**table[section], **values} if isinstance(values, Mapping) else values
    return JobConfig.model_validate_json(json.dumps(table))


def model_of(job: JobConfig, facts: Mapping[str, int], seed: int) -> torch.nn.Module:
    """The job's model with random weights of a size that makes its texts differ."""
    model: torch.nn.Module = load_object(families.MODELS[job.model.kind_name].build)(job.model, ModelContext(facts))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 2
    return model.eval()


def save_run(
    job: JobConfig,
    losses: Mapping[int, float | None],
    *,
    run_id: str = "20260101-000000-abcd",
    averaged: bool = False,
    weights: float | None = None,
    attachments: Mapping[str, Path] | None = None,
) -> RunFolder:
    """A run with a checkpoint for each step of `losses`, evaluated where there is a loss.

    Weights are random, seeded by the step, or all the number `weights`. `attachments` come in the place of the data's own.
    """
    prepared = prepare(job.prepare, Deps())
    data: Any = load_object(families.DATA[job.data.kind_name].build)(job.data, prepared.folder, job.seed)
    run = RunFolder(runs_folder() / job.name / run_id)
    run.path.mkdir(parents=True)
    run.config.write_text(job.model_dump_json(), encoding="utf-8")
    store = DirectoryStore(run.checkpoints, job.checkpointing)
    for step, loss in losses.items():
        tensors = {"model": model_of(job, data.facts, step).state_dict()}
        if weights is not None:
            tensors["model"] = {name: torch.full_like(tensor, weights) for name, tensor in tensors["model"].items()}
        if averaged:
            tensors["ema"] = model_of(job, data.facts, 1000 + step).state_dict()
        save(
            store,
            Snapshot(
                progress=Progress(step, 20, 1.0, 100.0, 1.0),
                tensors=tensors,
                hooks={},
                config=job.model_dump_json(),
                data_fingerprint=data.fingerprint,
                metrics=None if loss is None else {"loss": loss},
                attachments=data.attachments if attachments is None else attachments,
            ),
        )
    return run
