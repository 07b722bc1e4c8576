"""The names of everything inside `runs/<experiment>/<run id>/`, and of the places under the working directory."""

import os
import re
import secrets
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from ml_playground.core.error_handling import RunError
from ml_playground.core.foreign_files import json_table, read_at_most
from ml_playground.core.registry import did_you_mean

_STAMP = "%Y%m%d-%H%M%S"
_STAMP_CHARACTERS = 15
_SECOND = timedelta(seconds=1)


def home() -> Path:
    """The folder that holds `runs/`, `data/` and `.cache/`: `MLP_HOME`, else the working directory."""
    return Path(os.path.expanduser(os.environ.get("MLP_HOME") or ".")).absolute()  # noqa: PTH111 - raises for nobody


def runs_folder() -> Path:
    """Where all runs live."""
    return home() / "runs"


def verifications_folder() -> Path:
    """Where the runs of `mlp verify-resume` live: a level below the others, where no command takes them for a user's run."""
    return runs_folder() / ".verify"


def data_folder() -> Path:
    """Where all prepared data sets live."""
    return home() / "data"


def cache_folder() -> Path:
    """Where downloads and probes are kept; safe to delete."""
    return home() / ".cache"


def new_run_id(now: datetime) -> str:
    """`20261122-063401-1f3a`: sorts by time; the tail keeps two starts in one second apart."""
    return f"{now:{_STAMP}}-{secrets.token_hex(2)}"


def new_run(experiment: str, now: datetime) -> "RunFolder":
    """Where a run that begins now will lie, which is the newest of its experiment also where the clock was set back since."""
    place = runs_folder() / experiment
    after = (_second_after(path.name) for path in place.glob("*-*-*"))
    following = max((time for time in after if time is not None), default=now)
    return RunFolder(place / new_run_id(following if following > now + _SECOND else now))


def _second_after(run_id: str) -> datetime | None:
    try:
        return datetime.strptime(run_id[:_STAMP_CHARACTERS], _STAMP).replace(tzinfo=UTC) + _SECOND
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run on disk. Only names; reading and writing is done by those who own the file."""

    path: Path

    @property
    def id(self) -> str:
        """`<experiment>/<run id>`, as commands take it."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def config(self) -> Path:
        """The resolved job."""
        return self.path / "config.json"

    @property
    def environment(self) -> Path:
        """Commit, versions, device."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One `MetricRow` a line, appended."""
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """One `Event` a line, appended."""
        return self.path / "events.jsonl"

    @property
    def status(self) -> Path:
        """One `Status`, replaced whole."""
        return self.path / "status.json"

    @property
    def result(self) -> Path:
        """How the last process left its loop (`Result`)."""
        return self.path / "result.json"

    @property
    def control(self) -> Path:
        """Folder of `ControlRequest` files, taken in the order of their names."""
        return self.path / "control"

    @property
    def checkpoints(self) -> Path:
        """Folder of `step_000500/` folders."""
        return self.path / "checkpoints"

    def bad_batch(self, step: int, number: int) -> Path:
        """What is known of a micro-batch that was set aside, because its step was bad."""
        return self.path / "bad_batches" / f"step_{step:06d}_batch_{number:06d}.json"

    @property
    def samples(self) -> Path:
        """Texts written while training and by `mlp sample`."""
        return self.path / "samples"

    @property
    def quality(self) -> Path:
        """What `mlp analyze quality` found about its samples; `summary` in it are lines to read."""
        return self.path / "analysis" / "quality.json"

    @property
    def evaluations(self) -> Path:
        """Folder of what `mlp evaluate` found of a classifier, a file for each split (`Classification`)."""
        return self.path / "evaluations"

    @property
    def exports(self) -> Path:
        """Folder of what `mlp export` wrote, a folder for each kind."""
        return self.path / "export"

    @property
    def report(self) -> Path:
        """The one-file report."""
        return self.path / "report.html"

    @property
    def certificate(self) -> Path:
        """That this run was killed, resumed, and ended with the same bits as one that was not (`Certificate`)."""
        return self.path / "certificate.json"

    @property
    def log(self) -> Path:
        """Tracebacks of unexpected failures."""
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the process that trains this run."""
        return self.path / ".lock"


_OF_A_MODEL = frozenset({"model_type", "architectures"})
"""Keys of the config.json that a model's folder in Hugging Face form has, and no job."""
_MOST_JOB_BYTES = 4 << 20
"""A job that records a large model's config has a hundredth of it."""


def is_run(path: Path) -> bool:
    """Whether a folder is a run: it holds a resolved job, and is no checkpoint, which carries a copy of it.

    A model from elsewhere keeps a config.json, too, which is no job. A damaged one is taken for a job, so that its run stays
    visible and whoever reads it says what is wrong.
    """
    config = path / "config.json"
    # Unlike pathlib's, these raise for no name: what no file system takes is no run.
    if not os.path.isfile(config) or os.path.isfile(path / "progress.json"):  # noqa: PTH113
        return False
    try:
        table = json_table(read_at_most(config, _MOST_JOB_BYTES))
    except (OSError, ValueError):
        return True
    return _OF_A_MODEL.isdisjoint(table)


def all_runs(runs: Path) -> list[RunFolder]:
    """Every run under `runs/`, newest first; run ids begin with the time of their start."""
    found = [path for path in runs.glob("*/*") if is_run(path)]
    return [RunFolder(path) for path in sorted(found, key=lambda path: (path.name, path.parent.name), reverse=True)]


_MOST_BESIDE = 10_000
"""Of the entries of a folder in which a misspelt one is looked for."""

# What an experiment may be called; the beginning of a run id is a number.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


def find_run(target: str) -> RunFolder:
    """The run that a user means.

    Args:
        target: A folder, of a run or of an experiment; `<experiment>/<run id>`; an experiment, for its newest run; or the beginning
            of one run id.

    Raises:
        RunError: No run answers to it, or more than one does; names the nearest and what there is.
    """
    folder = Path(os.path.expanduser(target))  # noqa: PTH111 - as in is_run, of a user that there is not
    if is_run(folder):
        return RunFolder(folder.absolute())
    runs = all_runs(runs_folder())
    lack = _lack_of(target, folder)
    if not runs and not lack:
        raise RunError(
            f"no run answers to {target!r}: there is none under {runs_folder()} yet; start one: mlp train "
            + (target if _NAME.fullmatch(target) else "EXPERIMENT")
        )
    for run in runs:
        if target in (run.id, run.path.parent.name, run.path.name):
            return run
    experiment, _, beginning = target.rpartition("/")
    hits = [
        run
        for run in runs
        if beginning and run.path.name.startswith(beginning) and experiment in ("", run.path.parent.name)
    ]
    if len(hits) > 1:
        raise RunError(
            f"{target!r} begins {len(hits)} run ids ({_listed(run.id for run in hits)}); type more of the one you mean"
        )
    if hits:
        return hits[0]
    if lack and (named := _experiment_in(folder)):
        if (newest := next((run for run in runs if run.path.parent.name == named), None)) is not None:
            return newest
        lack = (
            f"the experiment {named} in that folder has no run under {runs_folder()} yet; start one: mlp train {target}"
        )
    if lack:
        raise RunError(f"no run answers to {target!r}: {lack}")
    experiments = sorted({run.path.parent.name for run in runs})
    near = did_you_mean(target, [*experiments, *(run.id for run in runs), *(run.path.name for run in runs)])
    raise RunError(
        f"no run answers to {target!r} under {runs_folder()}{near} "
        f"(experiments with runs: {_listed(experiments)}); mlp runs lists all"
    )


def _experiment_in(folder: Path) -> str:
    """The name of the experiment whose settings lie in a folder, as `mlp train FOLDER` takes it; empty where there are none."""
    try:
        table = tomllib.loads(read_at_most(folder / "config.toml", _MOST_JOB_BYTES).decode())
    # Some thousand brackets are more than tomllib takes.
    except (OSError, ValueError, RecursionError):
        return ""
    name = table.get("name", folder.absolute().resolve().name)
    return name if isinstance(name, str) and _NAME.fullmatch(name) else ""


def _lack_of(target: str, folder: Path) -> str:
    """Why a folder is no run, or what a path that leads nowhere is near to; empty for what looks like a name."""
    if os.path.isdir(folder):  # noqa: PTH112 - as in is_run
        if not os.path.isfile(folder / "config.json"):  # noqa: PTH113
            return f"the folder {folder} holds no config.json, so that it is neither a run nor a model's folder; mlp runs lists the runs"
        if os.path.isfile(folder / "progress.json"):  # noqa: PTH113
            return f"the folder {folder} is a checkpoint; name its run, which lies two folders above"
        return (
            f"the folder {folder} is a model's, its config.json is no job; mlp sample and mlp evaluate take such a folder, "
            "to train it further see docs/models.md"
        )
    if os.sep not in target or not os.path.isdir(folder.parent) or folder.parent.parent == runs_folder():  # noqa: PTH112
        return ""
    try:
        with os.scandir(folder.parent) as entries:
            beside = sorted(entry.name for entry in islice(entries, _MOST_BESIDE) if entry.is_dir())
    except OSError:
        beside = []
    return f"there is no folder {folder}{did_you_mean(folder.name, beside)} (mlp runs lists the runs)"


def _listed(names: Iterable[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    texts = list(names)
    more = f", and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more
