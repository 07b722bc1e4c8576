"""Small images that can be told apart, in idx files of a test's own; nothing is fetched."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_playground.configuration.models import JobConfig, PrepareSettings
from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.image_dataset import PreparedImages
from ml_playground.data_pipeline.preparer import prepare

Pixels = NDArray[np.uint8]
Labels = NDArray[np.uint8]
SIDE = 6
TRAIN, TEST = "train", "t10k"


def drawn(count: int, classes: int = 3, seed: int = 0) -> tuple[Pixels, Labels]:
    """Images (count, 6, 6) with a bright row whose place is the class, on noise; and their classes (count,)."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % classes).astype(np.uint8)
    pixels = generator.integers(0, 60, (count, SIDE, SIDE), dtype=np.uint8)
    pixels[np.arange(count), labels * 2] += 180
    return pixels, labels


def idx_bytes(values: NDArray[np.uint8]) -> bytes:
    """An idx file of bytes, as its format wants it."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def write_part(folder: Path, pixels: Pixels, labels: Labels, part: str = TRAIN, *, packed: bool = False) -> Path:
    """The two files of a part, under their usual names; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in ((f"{part}-images-idx3-ubyte", pixels), (f"{part}-labels-idx1-ubyte", labels)):
        content = idx_bytes(values)
        (folder / f"{name}{'.gz' if packed else ''}").write_bytes(
            gzip.compress(content, mtime=0) if packed else content
        )
    return folder


def image_settings(folder: Path, source: dict[str, Any] | None = None, **others: Any) -> PrepareSettings:
    """`[prepare]` over idx files."""
    chosen = {"kind": "mnist", "path": str(folder)} | (source or {})
    return PrepareSettings.model_validate_json(json.dumps({"source": chosen, **others}))


def prepared_images(folder: Path, pixels: Pixels, labels: Sequence[int] | Labels, **settings: Any) -> PreparedImages:
    """These images, prepared."""
    write_part(folder, pixels, np.asarray(labels, dtype=np.uint8))
    found = prepare(image_settings(folder, **settings), Deps())
    assert isinstance(found, PreparedImages)
    return found


def image_job(folder: Path, **sections: Any) -> JobConfig:
    """A job over 96 such images, with a convolutional network of some thousand weights."""
    if not folder.exists():
        write_part(folder, *drawn(96))
    plain: dict[str, Any] = {
        "name": "pictures",
        "seed": 7,
        "prepare": {"source": {"kind": "mnist", "path": str(folder)}, "val_fraction": 0.25},
        "data": {"kind": "image_batches", "micro_batch_rows": 8, "shift_pixels": 0.5, "rotate_degrees": 5.0},
        "model": {"kind": "mnist_cnn", "channels": 4, "hidden": 8, "dropout": 0.1},
        "objective": {"kind": "classify"},
        "optimizer": {"kind": "adamw", "lr": 0.01},
        "schedule": {"kind": "warmup_cosine", "warmup_steps": 2},
        "train": {"max_steps": 24, "evaluate_every_steps": 6, "log_every_steps": 4},
        "checkpointing": {"every_steps": 8, "every_minutes": None, "best_by": "accuracy"},
        "runtime": {"device": "cpu", "dtype": "float32", "threads": 1, "attention": "math"},
        "hooks": {"metrics": {"kind": "jsonl_metrics"}, "status": {"kind": "status"}},
    }
    for name, section in sections.items():
        plain[name] = plain.get(name, {}) | section if isinstance(section, dict) and "kind" not in section else section
    return JobConfig.model_validate_json(json.dumps(plain))
