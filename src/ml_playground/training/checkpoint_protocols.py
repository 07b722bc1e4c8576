"""What the loop asks of a store of checkpoints, and what passes between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ml_playground.core.course import PLAIN, Course
from ml_playground.core.error_handling import StorageError
from ml_playground.core.run_schema import Reason
from ml_playground.core.values import Action, Progress
from ml_playground.training.protocols import TensorGroups


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a checkpoint holds."""

    progress: Progress
    tensors: TensorGroups
    hooks: Mapping[str, Mapping[str, Any]]
    """State of each hook, by its name."""
    config: str
    """The resolved job as JSON."""
    data_fingerprint: str
    metrics: Mapping[str, float] | None = None
    """The evaluation at this very step; None when there was none."""
    lr_factor: float = 1.0
    """The factor in force, set by a wish."""
    ending: Reason | None = None
    """Set by the last save of a run that has nothing left to do: completed or stopped_early."""
    owed: Action = Action.NONE
    """What a stop broke off at this very step, its evaluation; the next start does it before anything else."""
    course: Course = PLAIN
    """Steps undone, batches split, and what the next step is judged by."""
    attachments: Mapping[str, Path] = field(default_factory=dict[str, Path])


@dataclass(frozen=True, slots=True)
class Saved:
    """A durable checkpoint."""

    step: int
    metrics: Mapping[str, float] | None
    reference: str
    """What messages call it: its path."""
    problem: str = ""
    """What went wrong after it was durable: an older one could not be dropped."""


@dataclass(frozen=True, slots=True)
class NotSaved:
    """A save that the disk did not take; nothing half-written is left of it."""

    step: int
    error: StorageError


class OpenCheckpoint(Protocol):
    """A verified checkpoint, ready to be read."""

    @property
    def progress(self) -> Progress:
        """Where it was taken."""
        ...

    @property
    def lr_factor(self) -> float:
        """The factor in force."""
        ...

    @property
    def metrics(self) -> Mapping[str, float] | None:
        """The evaluation at this very step; None when there was none."""
        ...

    @property
    def ending(self) -> Reason | None:
        """Why nothing was left to do; None for a run that was to go on."""
        ...

    @property
    def owed(self) -> Action:
        """What a stop broke off at this very step."""
        ...

    @property
    def course(self) -> Course:
        """Steps undone, batches split, and what the next step was to be judged by."""
        ...

    @property
    def data_fingerprint(self) -> str:
        """The data it was trained on."""
        ...

    @property
    def config(self) -> str:
        """The resolved job as JSON."""
        ...

    @property
    def hooks(self) -> Mapping[str, Mapping[str, Any]]:
        """State of each hook."""
        ...

    @property
    def reference(self) -> str:
        """What messages call it: its path."""
        ...

    def tensors(self) -> TensorGroups:
        """The groups of tensors, on the CPU."""
        ...


class CheckpointStore(Protocol):
    """Keeps snapshots so that each is complete or absent. Whoever lists or opens waits for a save that was begun before."""

    def list(self) -> Sequence[Saved]:
        """Complete checkpoints, oldest first, by names and sizes; those that `latest` found damaged are left out."""
        ...

    def latest(self, *, tidies: bool = True) -> OpenCheckpoint | None:
        """The newest whole one, checked byte by byte; damaged newer ones are passed over and named in `problems`.

        Only with `tidies` is anything removed that a killed writer has left.

        Raises:
            CheckpointError: There are some, but none is whole: starting over in silence would lose the run.
        """
        ...

    def open(self, step: int) -> OpenCheckpoint:
        """One by its step.

        Raises:
            CheckpointError: There is none, or it is damaged; names the file.
        """
        ...

    @property
    def problems(self) -> Sequence[str]:
        """What `latest` passed over, in words."""
        ...

    def prepare(self, tensors: TensorGroups) -> None:
        """Get ready to save tensors of these sizes; returns at once."""
        ...

    def begin_save(self, snapshot: Snapshot) -> None:
        """Start to save; the snapshot's tensors may be changed by the caller as soon as this returns.

        How it ended, a full disk included, is told by `poll` or `drain`. A save that is still being written is waited for.
        """
        ...

    def poll(self) -> Sequence[Saved | NotSaved]:
        """How saves ended since the last call, in their order; waits for nothing."""
        ...

    def drain(self) -> Sequence[Saved | NotSaved]:
        """Wait for all begun saves; the ends that `poll` has not told yet."""
        ...
