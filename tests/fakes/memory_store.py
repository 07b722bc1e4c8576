"""A checkpoint store without a disk: the same promises, kept in a dictionary."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core.course import Course
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.run_schema import Reason
from ml_playground.core.values import Action, Progress
from ml_playground.training.checkpoint_protocols import NotSaved, Saved, Snapshot
from ml_playground.training.checkpointing.retention import Kept, to_drop
from ml_playground.training.protocols import TensorGroups


@dataclass(frozen=True)
class KeptSnapshot:
    """A snapshot as it was when it was saved."""

    progress: Progress
    metrics: Mapping[str, float] | None
    lr_factor: float
    ending: Reason | None
    owed: Action
    data_fingerprint: str
    config: str
    hooks: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, Mapping[str, Tensor]]
    course: Course

    @property
    def reference(self) -> str:
        """What messages call it."""
        return f"memory:{self.progress.step}"

    def tensors(self) -> TensorGroups:
        """A copy of the groups, which the caller may change."""
        return _copied(self.groups)


class MemoryStore:
    """Keeps snapshots in memory. A save is durable when `begin_save` returns."""

    def __init__(self, settings: CheckpointingSettings | None = None) -> None:
        self._settings = settings or CheckpointingSettings()
        self._kept: dict[int, KeptSnapshot] = {}
        self.outcomes: list[Saved | NotSaved] = []

    def list(self) -> Sequence[Saved]:
        """All that are kept, oldest first."""
        return [Saved(step, kept.metrics, kept.reference) for step, kept in sorted(self._kept.items())]

    def latest(self, *, tidies: bool = True) -> KeptSnapshot | None:
        """The newest; there is nothing to tidy."""
        return self._kept[max(self._kept)] if self._kept else None

    def open(self, step: int) -> KeptSnapshot:
        """One by its step.

        Raises:
            CheckpointError: There is none.
        """
        if step not in self._kept:
            there = ", ".join(map(str, sorted(self._kept))) or "none"
            raise CheckpointError(f"memory holds no checkpoint of step {step} (there are: {there}).")
        return self._kept[step]

    @property
    def problems(self) -> Sequence[str]:
        """Nothing is damaged in memory."""
        return []

    def prepare(self, tensors: TensorGroups) -> None:
        """Nothing to get ready."""

    def begin_save(self, snapshot: Snapshot) -> None:
        """Keep a copy, then drop what need not stay."""
        step = snapshot.progress.step
        self._kept[step] = KeptSnapshot(
            progress=snapshot.progress,
            metrics=deepcopy(snapshot.metrics),
            lr_factor=snapshot.lr_factor,
            ending=snapshot.ending,
            owed=snapshot.owed,
            data_fingerprint=snapshot.data_fingerprint,
            config=snapshot.config,
            hooks=deepcopy(snapshot.hooks),
            groups=_copied(snapshot.tensors),
            course=snapshot.course,
        )
        self.outcomes.append(Saved(step, self._kept[step].metrics, self._kept[step].reference))
        there = [Kept(number, (kept.metrics or {}).get("loss")) for number, kept in self._kept.items()]
        rule = self._settings
        dropped = to_drop(
            there, keep_last=rule.keep_last, keep_best=rule.keep_best, keep_every_steps=rule.keep_every_steps
        )
        for number in dropped - {step}:
            del self._kept[number]

    def poll(self) -> Sequence[Saved | NotSaved]:
        """How saves ended since the last call."""
        told, self.outcomes = self.outcomes, []
        return told

    def drain(self) -> Sequence[Saved | NotSaved]:
        """The ends that `poll` has not told yet."""
        return self.poll()


def _copied(groups: TensorGroups) -> dict[str, dict[str, Tensor]]:
    return {
        group: {name: tensor.detach().clone() for name, tensor in tensors.items()} for group, tensors in groups.items()
    }
