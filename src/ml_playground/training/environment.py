"""What a run was made with: commit, versions, device, seed."""

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from ml_playground.configuration.models import JobConfig

PACKAGES = ("ml-playground", "torch", "numpy", "tokenizers", "safetensors", "pydantic")


def environment_record(job: JobConfig) -> dict[str, Any]:
    """Everything beside the job that may change a result, as JSON values."""
    device = torch.device(job.runtime.device)
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "seed": job.seed,
        "commit": _commit(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _commit() -> str | None:
    """The commit of the checkout this code runs from; None for an installed package."""
    try:
        reply = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607 - git is found as its user finds it
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return reply.stdout.strip() or None
