"""Which run a job goes on with, and which settings may differ from the saved ones. Free of torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import ValidationError

from ml_playground.configuration.base import HookSettings
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.problems import recorded
from ml_playground.core.checkpoint_format import list_complete, steps_in
from ml_playground.core.error_handling import RunError
from ml_playground.core.file_locks import is_locked
from ml_playground.core.foreign_files import json_table, read_at_most
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import FINISHED, Result, complaint

Lock = Literal["locked", "recorded", "free"]

LOCKED = ("name", "model", "adapter", "objective", "prepare", "data.sequence_tokens", "optimizer.kind")
"""Another value would not fit the saved weights and optimizer state, the data they were trained on, or the run's folder."""
FREE = (
    "hooks",
    "checkpointing",
    "sample",
    "use",
    "plugins",
    "prepare.max_loss_fraction",
    "train.log_every_steps",
    "train.on_bad_step",
    "train.bad_step_tries",
    "runtime.flight_check",
    "runtime.on_out_of_memory",
)
"""Changes nothing that the run computes; hooks that decide where it ends are recorded all the same.

What is done about a bad step or a lack of memory is free so that a run which ended with one can be told to go on; what was done
is kept by its checkpoints and events.
"""


MEANING = {"locked": "decides what the weights are", "recorded": "may be changed, as a branch of the run"}
"""Of a setting that differs, in a word."""

OF_A_BASE = ("model.config", "model.files_sha256")
"""What a job records of a model's folder."""
MODEL_PATH = "model.path"
"""The folder."""

DECIDED = ("runtime", "schedule.warmup_steps")
"""Where an "auto" is decided as a run begins, and stays what it was decided to be."""


MOST_SHOWN = 100
"""Characters of a value in a list of differences; a hash and a path are shown whole."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting whose value is not the saved one."""

    path: str
    saved: Any
    wanted: Any
    lock: Lock

    def __str__(self) -> str:
        inner = _inner_differences(self.saved, self.wanted)
        words = f"saved {short(self.saved)}, wanted {short(self.wanted)}" if inner is None else inner
        return f"{self.path}: {words} ({self.lock})"


def _inner_differences(saved: Any, wanted: Any) -> str | None:
    """The keys in which two JSON texts differ, `attn_pdrop 0.1 -> 0.2`; None where these are no such texts."""
    try:
        old, new = json_table(saved), json_table(wanted)
    except (TypeError, ValueError):
        return None
    paths = _flat(old), _flat(new)
    return ", ".join(
        f"{key} {short(paths[0].get(key))} -> {short(paths[1].get(key))}"
        for key in paths[0] | paths[1]
        if paths[0].get(key) != paths[1].get(key)
    )


def short(value: Any) -> str:
    """A value as it is written, cut where it is long."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 20]}... ({len(text):,} characters)"


def differences(saved: JobConfig, wanted: JobConfig) -> list[Difference]:
    """Every dotted path at which two jobs differ, in the order of the settings.

    A wanted "auto" agrees with whatever the saved run had decided.
    """
    old, new = _flat(saved.model_dump(mode="json")), _flat(wanted.model_dump(mode="json"))
    deciding = tuple(
        f"hooks.{name}"
        for job in (saved, wanted)
        for name, hook in job.hooks.items()
        if isinstance(hook, HookSettings) and hook.decides_the_end
    )
    # What a folder holds says its hash; where it lies is as free as the name of a machine.
    moved = (MODEL_PATH,) if old.get(OF_A_BASE[-1]) is not None and old[OF_A_BASE[-1]] == new.get(OF_A_BASE[-1]) else ()
    return [
        Difference(
            path,
            old.get(path),
            new.get(path),
            "recorded" if _under(path, deciding) else "free" if path in moved else lock_of(path),
        )
        for path in list(old) + [path for path in new if path not in old]
        if old.get(path) != new.get(path) and not (_under(path, DECIDED) and new.get(path) == "auto")
    ]


def lock_of(path: str) -> Lock:
    """Whether a setting may differ on resume: never, only as a branch, or freely."""
    if _under(path, FREE):
        return "free"
    return "locked" if _under(path, LOCKED) else "recorded"


def counting_settings(job: JobConfig) -> dict[str, Any]:
    """Every setting by its dotted path that is not free."""
    flat = _flat(job.model_dump(mode="json"))
    return {path: value for path, value in flat.items() if lock_of(path) != "free"}


def _under(path: str, sections: Sequence[str]) -> bool:
    return any(path == section or path.startswith(f"{section}.") for section in sections)


def with_decided(wanted: JobConfig, saved: JobConfig) -> JobConfig:
    """The wanted job, each "auto" of its runtime and its schedule replaced by what the saved run had decided."""
    sections = {"runtime": (wanted.runtime, saved.runtime), "schedule": (wanted.schedule, saved.schedule)}
    return wanted.model_copy(
        update={
            name: section.model_copy(
                update={
                    field: getattr(former, field)
                    for field in type(section).model_fields
                    if getattr(section, field) == "auto" and hasattr(former, field)
                }
            )
            for name, (section, former) in sections.items()
        }
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """What a start of a job comes to."""

    action: Literal["new", "resume", "nothing_to_do"]
    run: RunFolder | None = None
    differences: Sequence[Difference] = ()
    """Those of a resumed run that are not free: it is a branch from here on."""
    passed_over: RunFolder | None = None
    """An unfinished run of other settings beside which a new one begins, for there is nothing in it to go on from."""
    finished: RunFolder | None = None
    """The newest finished run of the experiment, of other settings, beside which a new one begins."""


def choose_run(job: JobConfig, runs: Path, *, fresh: bool = False, named: RunFolder | None = None) -> Choice:
    """Go on with the newest run of equal settings; else begin another one, unless an unfinished run differs.

    A run that died before its first checkpoint, and that nobody trains, holds nothing to lose and stands in nobody's way.

    Args:
        job: The job as it is wanted now.
        runs: The folder of all runs.
        fresh: Begin another run whatever there is.
        named: Go on with this run, even if recorded settings differ.

    Raises:
        RunError: Locked settings differ from the named run's; or any but free ones from the newest unfinished run's.
    """
    if named is not None:
        return _go_on(job, named, named=True)
    if fresh:
        return Choice("new")
    others: dict[str, RunFolder] = {}
    for run in _runs_of(job.name, runs):
        finished = finished_result(run) is not None
        if not _changed(job, run):
            return Choice("nothing_to_do" if finished else "resume", run)
        others.setdefault("finished" if finished else "unfinished" if _has_something_to_lose(run) else "empty", run)
    if "unfinished" in others:
        return _go_on(job, others["unfinished"], named=False)
    return Choice("new", passed_over=others.get("empty"), finished=others.get("finished"))


def unfinished_run(experiment: str, runs: Path) -> RunFolder | None:
    """The newest run of an experiment that `choose_run` leaves for no other settings unasked.

    Raises:
        RunError: How a run ended cannot be read.
    """
    candidates = (run for run in _runs_of(experiment, runs) if finished_result(run) is None)
    return next((run for run in candidates if _has_something_to_lose(run)), None)


def _runs_of(experiment: str, runs: Path) -> list[RunFolder]:
    """Newest first."""
    return [RunFolder(config.parent) for config in sorted((runs / experiment).glob("*/config.json"), reverse=True)]


def _has_something_to_lose(run: RunFolder) -> bool:
    """Whether it holds a complete checkpoint, or is being trained by a process that may soon have one."""
    # The lock first: a process that ends between the two has written its checkpoint by then.
    return is_locked(run.lock) or bool(list_complete(run.checkpoints))


def _go_on(job: JobConfig, run: RunFolder, *, named: bool) -> Choice:
    changed = _changed(job, run)
    locked = [d for d in changed if d.lock == "locked"]
    if locked or (changed and not named):
        shown = locked if named else changed
        listed = "\n".join(f"  {difference}" for difference in shown)
        remedy = (
            "Restore these settings, or start a new run beside it: --fresh."
            if locked
            else f"Start a new run beside it: --fresh. Or go on with the changed settings, as a branch: --resume {run.id}."
        )
        meaning = "; ".join(f"{lock}: {MEANING[lock]}" for lock in sorted({d.lock for d in shown}))
        base = (
            f"\nThe model was read from {getattr(job.model, 'path', None)}."
            if any(d.path in OF_A_BASE for d in shown)
            else ""
        )
        raise RunError(
            f"The run {run.id} was started with other settings{_reached(run)}:\n{listed}\n({meaning}){base}\n{remedy}"
        )
    if not changed and finished_result(run) is not None:
        return Choice("nothing_to_do", run)
    return Choice("resume", run, tuple(changed))


def _reached(run: RunFolder) -> str:
    """How far a run came, as its user counts."""
    steps = steps_in(run.checkpoints)
    return f" and is saved at step {max(steps):,}" if steps else ""


def _changed(job: JobConfig, run: RunFolder) -> list[Difference]:
    return [difference for difference in differences(read_job(run), job) if difference.lock != "free"]


def read_job(run: RunFolder) -> JobConfig:
    """The job a run was started with.

    Raises:
        RunError: The folder holds no readable job; names the file.
        PluginError: A plugin that it names is not here.
    """
    try:
        return recorded(read_at_most(run.config), str(run.config))
    except FileNotFoundError:
        raise RunError(f"{run.path} is no run: it holds no config.json. `mlp runs` lists the runs there are.") from None
    except OSError as error:
        raise RunError(
            f"{run.config} cannot be read: {error.strerror}. To train, begin a new run beside it: --fresh."
        ) from error
    except ValidationError as error:
        raise RunError(
            f"{run.config} is no job that this version can read: {complaint(error)}. To train, begin a new run beside it: --fresh."
        ) from None


def finished_result(run: RunFolder) -> Result | None:
    """How a finished run ended; None while something is left to do.

    Raises:
        RunError: The file is there but cannot be read.
    """
    try:
        result = Result.model_validate_json(read_at_most(run.result))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{run.result} cannot be read: {error.strerror}; delete it to go on with the run.") from error
    except ValidationError as error:
        raise RunError(f"{run.result} cannot be read: {complaint(error)}; delete it to go on with the run.") from None
    return result if result.reason in FINISHED else None


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(cast(dict[str, Any], value), f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
