"""Begins saves, and tells what became of them: which checkpoint is durable, which the disk did not take."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from ml_playground.core.deps import Clock
from ml_playground.core.values import Progress
from ml_playground.training.checkpoint_protocols import CheckpointStore, NotSaved, Saved, Snapshot
from ml_playground.training.hook_protocols import Hook


class Saves:
    """The saves of one process."""

    def __init__(
        self, store: CheckpointStore, hooks: Mapping[str, Hook], clock: Clock, tell: Callable[[str], None], step: int
    ) -> None:
        """`step` is that of the checkpoint which the process begins with; 0 where there is none."""
        self._store = store
        self._hooks = hooks
        self._clock = clock
        self._tell = tell
        self._begun_s = clock.tick()
        self.durable_step = step
        """Step of the newest durable checkpoint; 0 before the first."""

    @property
    def seconds_since(self) -> float:
        """Since the last save was begun, or the process."""
        return self._clock.tick() - self._begun_s

    def begin(self, snapshot: Snapshot) -> None:
        """Begin to save; `settle` hears what came of it."""
        self._store.begin_save(snapshot)
        self._begun_s = self._clock.tick()

    def settle(self, at: Progress, *, wait: bool = False, last: bool = False) -> None:
        """Tell what became of saves.

        Args:
            at: How far the run is.
            wait: Finish the saves that are under way first.
            last: Nothing but the save is left to do, so a full disk ends the run.

        Raises:
            StorageError: The last save failed.
        """
        for outcome in self._store.drain() if wait or last else self._store.poll():
            if isinstance(outcome, Saved):
                self._tell_saved(outcome, replace(at, step=outcome.step))
            else:
                self._tell_failed(outcome, ends=last and outcome.step == at.step)

    def _tell_saved(self, saved: Saved, at: Progress) -> None:
        self.durable_step = saved.step
        for hook in self._hooks.values():
            hook.on_saved(at, saved.reference)
        if saved.problem:
            self._tell(f"step {saved.step:,} was saved, but older checkpoints stay: {saved.problem}")

    def _tell_failed(self, failed: NotSaved, *, ends: bool) -> None:
        if ends:
            raise failed.error
        again = "training goes on and saves again when it is due"
        self._tell(f"step {failed.step:,} was not saved, {again}: {failed.error}")
