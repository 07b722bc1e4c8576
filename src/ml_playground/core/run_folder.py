"""The names of everything inside `runs/<experiment>/<run id>/`, and of the places under the working directory."""

import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


def home() -> Path:
    """The folder that holds `runs/`, `data/` and `.cache/`: `MLP_HOME`, else the working directory."""
    return Path(os.environ.get("MLP_HOME") or ".").expanduser().absolute()


def runs_folder() -> Path:
    """Where all runs live."""
    return home() / "runs"


def data_folder() -> Path:
    """Where all prepared data sets live."""
    return home() / "data"


def cache_folder() -> Path:
    """Where downloads and probes are kept; safe to delete."""
    return home() / ".cache"


def new_run_id(now: datetime) -> str:
    """`20261122-063401-1f3a`: sorts by time; the tail keeps two starts in one second apart."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


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
    def control(self) -> Path:
        """Folder of `ControlRequest` files, taken in the order of their names."""
        return self.path / "control"

    @property
    def checkpoints(self) -> Path:
        """Folder of `step_000500/` folders."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Texts written while training and by `mlp sample`."""
        return self.path / "samples"

    @property
    def report(self) -> Path:
        """The one-file report."""
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        """Tracebacks of unexpected failures."""
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the process that trains this run."""
        return self.path / ".lock"
