"""Checkpoints as folders: each is complete or absent, verified when it is read, and rotated by rule."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core import atomic
from ml_playground.core.checkpoint_format import (
    TENSOR_SUFFIX,
    CheckpointFolder,
    list_complete,
    open_checkpoint,
    step_folder_name,
    steps_in,
)
from ml_playground.core.checkpoint_manifest import MANIFEST, FileRecord, manifest_text
from ml_playground.core.error_handling import CheckpointError, StorageError
from ml_playground.core.storage_errors import free_bytes, readable_size
from ml_playground.core.torch_tensors import read_tensors, stored_bytes, write_tensors
from ml_playground.core.values import BY_LOSS, Merit
from ml_playground.training.checkpoint_protocols import NotSaved, Saved, Snapshot
from ml_playground.training.checkpointing.background import Background
from ml_playground.training.checkpointing.retention import Kept, to_drop
from ml_playground.training.checkpointing.small_files import small_files_of
from ml_playground.training.checkpointing.snapshot_buffer import Copied, SnapshotBuffer
from ml_playground.training.protocols import TensorGroups

SPARE_BYTES = 1 << 20
"""No save begins where less would be left: headers, JSON files, whole blocks, and room for the metrics."""


class StoredCheckpoint(CheckpointFolder):
    """A verified checkpoint folder, and its tensors."""

    def tensors(self) -> TensorGroups:
        """The groups of tensors, on the CPU, under every name they were saved by.

        Raises:
            CheckpointError: A file went missing since it was verified.
        """
        return {group: read_tensors(self.tensor_file(group)) for group in self.groups}


class DirectoryStore:
    """Keeps snapshots as `step_000500/` folders under one folder, written beside the training.

    Memory: a copy of the newest snapshot while it is written, and of the last one none; more where the buffer keeps a block.
    """

    def __init__(
        self,
        folder: Path,
        settings: CheckpointingSettings,
        *,
        merit: Merit = BY_LOSS,
        buffer: SnapshotBuffer | None = None,
    ) -> None:
        """`merit`: by which the best checkpoints are known."""
        self._folder = folder
        self._settings = settings
        self._merit = merit
        self._damaged: dict[int, str] = {}
        self._untold: list[Saved | NotSaved] = []
        self._buffer = buffer or SnapshotBuffer()
        self._background: Background[Saved | NotSaved | None] = Background("checkpoint")

    def list(self) -> Sequence[Saved]:
        """Complete checkpoints, oldest first: names and sizes are right, and `latest` has found no damage in them."""
        self._settle()
        return self._complete()

    def _complete(self) -> Sequence[Saved]:
        return [
            Saved(checkpoint.progress.step, checkpoint.metrics, checkpoint.reference)
            for checkpoint in list_complete(self._folder)
            if checkpoint.progress.step not in self._damaged
        ]

    def latest(self, *, tidies: bool = True) -> StoredCheckpoint | None:
        """The newest whole one, checked byte by byte; damaged newer ones are passed over and named in `problems`.

        With `tidies` what a killed writer has left is cleared away; after the end of a run nobody else would do it.

        Raises:
            CheckpointError: There are some, but none is whole; names each.
        """
        self._settle()
        self._damaged = {}
        if tidies:
            # A disk that is not to be written to does not keep a checkpoint from being read.
            with suppress(StorageError):
                # First, for a checkpoint that was being replaced goes back to its place by it.
                atomic.sweep(self._folder)
        for step in reversed(steps_in(self._folder)):
            try:
                found = self.open(step)
            except CheckpointError as error:
                self._damaged[step] = str(error)
            else:
                if tidies and found.ending is not None:
                    with suppress(StorageError):
                        self._rotate(step)
                return found
        if self._damaged:
            found = "\n".join(f"  {problem}" for problem in self._damaged.values())
            raise CheckpointError(
                f"No checkpoint in {self._folder} is whole:\n{found}\n"
                "Put right what is named, or begin a new run beside it: --fresh."
            )
        return None

    def open(self, step: int) -> StoredCheckpoint:
        """One by its step, checked byte by byte.

        Raises:
            CheckpointError: There is none, or it is damaged; names the file.
        """
        self._settle()
        steps = steps_in(self._folder)
        if step not in steps:
            there = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(f"{self._folder} holds no checkpoint of step {step} (there are: {there}).")
        found = open_checkpoint(steps[step])
        return StoredCheckpoint(**{field.name: getattr(found, field.name) for field in fields(found)})

    @property
    def problems(self) -> Sequence[str]:
        """What `latest` passed over, in words, newest first."""
        return list(self._damaged.values())

    def prepare(self, tensors: TensorGroups) -> None:
        """Make the room that snapshots of these sizes are copied into, beside the training."""
        self._settle()
        self._background.start(self._buffer.preparation(tensors))

    def begin_save(self, snapshot: Snapshot) -> None:
        """Copy a snapshot and write the copy beside the training; then drop the checkpoints that need not stay.

        One is written at a time: a second copy would cost the memory of another snapshot, and help only a run that saves
        faster than its disk can write. Where there is no memory for a copy, and after the last step, when nobody changes the
        tensors any more, this returns when all is written.

        Raises:
            CheckpointError: A folder to be attached is gone, or what a hook remembers could not be read back.
        """
        self._settle()
        step = snapshot.progress.step
        path = self._folder / step_folder_name(step)
        small_files = small_files_of(snapshot)
        lack = _lack_of_space(path, snapshot.tensors, small_files)
        if lack is not None:
            self._untold.append(NotSaved(step, lack))
            return
        # After the last save there is no training to step back for, and somebody waits.
        last = snapshot.ending is not None
        copied = None if last else self._buffer.copy(snapshot.tensors)
        self._background.start(partial(self._written, path, snapshot, small_files, copied), hurry=last)
        if copied is None:
            self._settle()

    def poll(self) -> Sequence[Saved | NotSaved]:
        """How saves ended since the last call; waits for nothing."""
        if not self._background.busy:
            self._settle()
        told, self._untold = self._untold, []
        return told

    def drain(self) -> Sequence[Saved | NotSaved]:
        """Wait for the save that is being written; the ends that `poll` has not told yet."""
        self._settle()
        return self.poll()

    def _settle(self) -> None:
        """Wait for what is done beside the training. After this only the calling thread touches this object."""
        outcome = self._background.take()
        if outcome is not None:
            self._untold.append(outcome)

    def _written(
        self, path: Path, snapshot: Snapshot, small_files: Mapping[str, bytes], copied: Copied | None
    ) -> Saved | NotSaved:
        """Write a checkpoint and rotate: runs beside the training, and touches of the snapshot only what nobody changes."""
        step = snapshot.progress.step
        if copied is not None and copied.arrived is not None:
            copied.arrived.synchronize()
        try:
            atomic.sweep(self._folder)
            with atomic.folder(path) as partial_folder:
                _fill(partial_folder, snapshot.tensors, copied, small_files)
        except StorageError as error:
            return NotSaved(step, error)
        self._damaged.pop(step, None)
        saved = Saved(step, snapshot.metrics, str(path))
        try:
            self._rotate(step)
        except StorageError as error:
            return replace(saved, problem=str(error))
        return saved

    def _rotate(self, just_saved: int) -> None:
        there = [Kept(saved.step, self._merit.cost_of(saved.metrics)) for saved in self._complete()]
        settings = self._settings
        dropped = to_drop(
            there,
            keep_last=settings.keep_last,
            keep_best=settings.keep_best,
            keep_every_steps=settings.keep_every_steps,
        )
        # After a start from an older step, checkpoints with a higher number may lie there; the new one stays beside them.
        for step in sorted(dropped - {just_saved}):
            atomic.remove_folder(self._folder / step_folder_name(step))


def _lack_of_space(path: Path, tensors: TensorGroups, small_files: Mapping[str, bytes]) -> StorageError | None:
    """What to say where a checkpoint does not fit on the disk."""
    needed = sum(map(stored_bytes, tensors.values())) + sum(map(len, small_files.values())) + SPARE_BYTES
    free = free_bytes(path)
    if needed <= free:
        return None
    return StorageError(
        f"Could not write {path}: it needs {readable_size(needed)}, and {readable_size(free)} are free there; "
        "free some space, lower checkpointing.keep_last, or set MLP_HOME to a folder on another disk. "
        "The checkpoints before it are untouched."
    )


def _fill(partial_folder: Path, tensors: TensorGroups, copied: Copied | None, small_files: Mapping[str, bytes]) -> None:
    """Fill a checkpoint folder: tensors, small files, the manifest last. Flushing is left to `atomic.folder`: once a file."""
    files: dict[str, FileRecord] = {}
    for group in sorted(tensors):
        name = f"{group}{TENSOR_SUFFIX}"
        if copied is None:
            files[name] = write_tensors(partial_folder / name, tensors[group])
        else:
            # The next step wants the room of what is on its way to the disk.
            named = copied.groups[group]
            files[name] = write_tensors(partial_folder / name, named, let_go=named.clear)
    for name, content in small_files.items():
        (partial_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (partial_folder / name).write_bytes(content)
        files[name] = FileRecord(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (partial_folder / MANIFEST).write_bytes(manifest_text(files).encode())
