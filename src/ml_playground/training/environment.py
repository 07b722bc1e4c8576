"""What a run was made with: commit, versions, device, seed."""

import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch

from ml_playground.configuration import families
from ml_playground.configuration.fingerprint import existing_data
from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import write_file
from ml_playground.core.foreign_files import json_table, read_at_most
from ml_playground.core.humanise import parameters_text, plural
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import RunFolder
from ml_playground.training.assembly import Assembly, Opened
from ml_playground.training.deciding import Decisions
from ml_playground.training.flight_report import CHECKED, NOTES, PASSED_OVER, FlightReport
from ml_playground.training.hooks.records import EventLog, Tell, tell_stderr
from ml_playground.training.resume import Choice
from ml_playground.training.run_lock import write_job
from ml_playground.training.weights import parameters_of

CHECKOUT = Path(__file__).parents[3]
"""Where `src/` lies, if this is a checkout."""

MANY_EPOCHS = 40
"""Beyond it a small text is memorised: gains from repeating end at about 4 epochs and nothing is left to gain at 40.

Source: Muennighoff et al., "Scaling Data-Constrained Language Models" (2023).
"""

COMPARED = ("python", "platform", "processor", "device", "threads", "commit")
"""Facts of a start that may change a result, beside the versions of packages."""

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
        "data": load_object(families.BOOKS)(existing_data(job), job.data).as_json(),
    }


@cache
def _commit() -> str | None:
    """The commit of the checkout this code runs from; None for an installed package, or where git does not answer in time.

    Asked once: the code of a process stays as it was loaded.
    """
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


def environment_changes(former: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """What may change a result and is not what it was, in words; only of what both records know."""
    before, after = _facts(former), _facts(present)
    return [
        f"{name}: {before[name]} -> {after[name]}" for name in after if name in before and before[name] != after[name]
    ]


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    packages = record.get("packages")
    plain = {name: record[name] for name in COMPARED if record.get(name) is not None}
    return plain | (cast(dict[str, Any], packages) if isinstance(packages, dict) else {})


def record_start(
    ready: Opened, run: RunFolder, report: FlightReport | None, events: EventLog, step: int, tell: Tell = tell_stderr
) -> None:
    """Write down the resolved job, its environment, why its runtime is as it is, and what the flight check found.

    The result of an earlier process no longer holds.
    In this order: killed in between, the run is unfinished under its former settings, never finished under the new ones.
    An environment that is not that of the last start is said and noted: the promise of equal bits holds within one alone.
    """
    record = environment_record(ready.job, ready.decided)
    record["flight_check"] = None if report is None else asdict(report)
    changes = environment_changes(_recorded(run.environment), record)
    run.result.unlink(missing_ok=True)
    if changes:
        events.note("environment_changed", step, changes=changes)
        tell(f"the environment is not that of this run's last start, so its numbers may differ: {'; '.join(changes)}")
    write_file(run.environment, json.dumps(record, indent=2) + "\n")
    write_job(run, ready.job)


def _recorded(path: Path) -> Mapping[str, Any]:
    """The record of the last start; nothing where there is none, or it cannot be read: it is only compared."""
    try:
        return json_table(read_at_most(path))
    except (OSError, ValueError):
        return {}


def facts_of(ready: Opened, built: Assembly, choice: Choice, report: FlightReport | None) -> dict[str, str]:
    """What the console and the events say at the start, in words.

    Args:
        ready: The resolved job and its data.
        built: Whose parameters are counted, and whose store knows which checkpoints were passed over.
        choice: Which run this is, and how its settings differ from the saved ones.
        report: Of the flight check.
    """
    job, runtime = ready.job, ready.job.runtime
    epochs = ready.max_steps * job.train.micro_batches_per_step / ready.data.micro_batches_per_epoch
    precision = (
        f"{runtime.dtype}, {plural(int(runtime.threads), 'thread')}" if runtime.device == "cpu" else runtime.dtype
    )
    ways = [precision]
    if runtime.compile is True:
        ways.append("compiled")
    if runtime.activation_checkpointing is True:
        ways.append("activations recomputed")
    facts = {
        "parameters": parameters_text(*parameters_of(built.model)),
        "device": f"{runtime.device} ({', '.join(ways)})",
    }
    # Images are not learnt by heart as text is: augmented ones are never the same, and dozens of epochs are usual.
    if epochs >= MANY_EPOCHS and built.objective.unit == "token":
        facts["note:"] = (
            f"{epochs:.0f} epochs, so expect the text to be learnt by heart; use more text, fewer steps "
            "(--set train.max_epochs=10) or a smaller model"
        )
    else:
        facts["epochs"] = f"{epochs:.2g}"
    lost = load_object(families.BOOKS)(existing_data(job)).manifest.ledger.lost_fraction()
    if ready.shortened_warmup is not None:
        facts["warm-up"] = f"{plural(ready.shortened_warmup, 'step')} in a run this short"
    if lost:
        facts["lost"] = f"{100 * lost:.2g} % of the text (mlp data ledger)"
    if built.store.problems:
        facts[PASSED_OVER] = "; ".join(built.store.problems)
    if choice.differences:
        facts["branched"] = "; ".join(str(difference) for difference in choice.differences)
    if report is not None:
        facts[CHECKED] = report.line
        if report.notes:
            facts[NOTES] = "; ".join(report.notes)
    return facts
