"""A real job small enough for a test: 3,000 characters, a model of some thousand weights."""

import json
from pathlib import Path
from typing import Any

from ml_playground.configuration.models import JobConfig

TEXT = "".join(
    f"{number} green bottles hanging on the wall,\nand if one green bottle should accidentally fall,\n"
    f"there'd be {number - 1} green bottles hanging on the wall.\n\n"
    for number in range(25, 0, -1)
)


def tiny_job(folder: Path, **sections: Any) -> JobConfig:
    """A char model over TEXT, written to `folder/text.txt`; `sections` are laid over section by section."""
    text = folder / "text.txt"
    if not text.exists():
        folder.mkdir(parents=True, exist_ok=True)
        text.write_text(TEXT, encoding="utf-8")
    plain: dict[str, Any] = {
        "name": "tiny",
        "seed": 7,
        "prepare": {"source": {"kind": "text_file", "path": str(text)}, "tokenizer": {"kind": "char"}},
        "data": {"kind": "token_windows", "sequence_tokens": 16, "micro_batch_rows": 4},
        "model": {"kind": "gpt", "n_layer": 2, "n_head": 2, "n_embd": 16},
        "objective": {"kind": "next_token"},
        "optimizer": {"kind": "adamw", "lr": 0.01},
        "schedule": {"kind": "warmup_cosine", "warmup_steps": 5},
        "train": {"max_steps": 60, "evaluate_every_steps": 20, "evaluation_batches": 4, "log_every_steps": 5},
        "checkpointing": {"every_steps": 7, "every_minutes": None},
        "runtime": {"device": "cpu", "dtype": "float32", "threads": 1},
        "hooks": {"metrics": {"kind": "jsonl_metrics"}, "status": {"kind": "status"}, "control": {"kind": "control"}},
        "sample": {"num_samples": 1, "max_new_tokens": 20},
    }
    for name, section in sections.items():
        plain[name] = plain.get(name, {}) | section if isinstance(section, dict) else section
    return JobConfig.model_validate_json(json.dumps(plain))
