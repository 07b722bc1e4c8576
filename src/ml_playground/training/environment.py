"""What a run was made with: commit, versions, device, seed."""

import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import write_file
from ml_playground.core.run_folder import RunFolder
from ml_playground.training.deciding import Decisions
from ml_playground.training.resume import Choice

CHECKOUT = Path(__file__).parents[3]
"""Where `src/` lies, if this is a checkout."""

MANY_EPOCHS = 40
"""Beyond it a small text is memorised: gains from repeating end at about 4 epochs and nothing is left to gain at 40.

Source: Muennighoff et al., "Scaling Data-Constrained Language Models" (2023).
"""

PACKAGES = ("ml-playground", "torch", "numpy", "tokenizers", "safetensors", "pydantic")


def environment_record(job: JobConfig, decided: Decisions) -> dict[str, Any]:
    """Everything beside the job that may change a result, as JSON values."""
    device = torch.device(job.runtime.device)
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "runtime": {name: decision.reason for name, decision in decided.items()},
        "seed": job.seed,
        "commit": _commit(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _commit() -> str | None:
    """The commit of the checkout this code runs from; None for an installed package."""
    if not (CHECKOUT / ".git").exists():
        return None
    try:
        reply = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607 - git is found as its user finds it
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return reply.stdout.strip() or None


def record_start(job: JobConfig, run: RunFolder, decided: Decisions) -> None:
    """Write down the resolved job, its environment and why its runtime is as it is; the result of an earlier process no longer holds.

    In this order: killed in between, the run is unfinished under its former settings, never finished under the new ones.
    """
    environment = json.dumps(environment_record(job, decided), indent=2) + "\n"
    run.result.unlink(missing_ok=True)
    write_file(run.environment, environment)
    write_file(run.config, json.dumps(job.model_dump(mode="json"), indent=2) + "\n")


def facts_of(
    job: JobConfig, model: nn.Module, epochs: float, problems: Sequence[str], choice: Choice
) -> dict[str, str]:
    """What the console and the events say at the start, in words.

    Args:
        job: The resolved job.
        model: Whose parameters are counted.
        epochs: How often the run reads its training data.
        problems: Checkpoints that were passed over.
        choice: Which run this is, and how its settings differ from the saved ones.
    """
    runtime = job.runtime
    precision = f"{runtime.dtype}, {runtime.threads} threads" if runtime.device == "cpu" else runtime.dtype
    ways = [precision]
    if runtime.compile is True:
        ways.append("compiled")
    if runtime.activation_checkpointing is True:
        ways.append("activations recomputed")
    facts = {
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "device": f"{runtime.device} ({', '.join(ways)})",
    }
    if epochs >= MANY_EPOCHS:
        facts["note:"] = (
            f"{epochs:.0f} epochs, so expect the text to be learnt by heart; use more text, fewer steps "
            "(--set train.max_epochs=10) or a smaller model"
        )
    else:
        facts["epochs"] = f"{epochs:.2g}"
    if problems:
        facts["passed over"] = "; ".join(problems)
    if choice.differences:
        facts["branched"] = "; ".join(str(difference) for difference in choice.differences)
    return facts
