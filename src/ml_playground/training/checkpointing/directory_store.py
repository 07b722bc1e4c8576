"""Checkpoints as folders: each is complete or absent, verified when it is read, and rotated by rule."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core import atomic
from ml_playground.core.checkpoint_format import (
    CONFIG,
    HOOKS,
    PROGRESS,
    TENSOR_SUFFIX,
    CheckpointFolder,
    ProgressFile,
    list_complete,
    open_checkpoint,
    step_folder_name,
    steps_in,
)
from ml_playground.core.checkpoint_manifest import MANIFEST, FileRecord, manifest_text
from ml_playground.core.error_handling import CheckpointError, StorageError
from ml_playground.core.storage_errors import free_bytes, readable_size
from ml_playground.core.torch_tensors import read_tensors, stored_bytes, write_tensors
from ml_playground.training.checkpointing.retention import Kept, to_drop
from ml_playground.training.protocols import Saved, Snapshot, TensorGroups

# Headers, JSON files and whole blocks: what a checkpoint takes beside its tensors and attachments.
_OVERHEAD_BYTES = 1 << 20


class StoredCheckpoint(CheckpointFolder):
    """A verified checkpoint folder, and its tensors."""

    def tensors(self) -> TensorGroups:
        """The groups of tensors, on the CPU, under every name they were saved by.

        Raises:
            CheckpointError: A file went missing since it was verified.
        """
        return {group: read_tensors(self.tensor_file(group)) for group in self.groups}


class DirectoryStore:
    """Keeps snapshots as `step_000500/` folders under one folder. A save is durable when `begin_save` returns."""

    def __init__(self, folder: Path, settings: CheckpointingSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._damaged: dict[int, str] = {}
        self._untold: list[Saved] = []

    def list(self) -> Sequence[Saved]:
        """Complete checkpoints, oldest first: names and sizes are right, and `latest` has found no damage in them."""
        return [
            Saved(checkpoint.progress.step, checkpoint.metrics, checkpoint.reference)
            for checkpoint in list_complete(self._folder)
            if checkpoint.progress.step not in self._damaged
        ]

    def latest(self) -> StoredCheckpoint | None:
        """The newest whole one, checked byte by byte; damaged newer ones are passed over and named in `problems`.

        Raises:
            CheckpointError: There are some, but none is whole; names each.
        """
        self._damaged = {}
        for step in reversed(steps_in(self._folder)):
            try:
                return self.open(step)
            except CheckpointError as error:
                self._damaged[step] = str(error)
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

    def begin_save(self, snapshot: Snapshot) -> None:
        """Save a snapshot, then drop the checkpoints that need not stay.

        Raises:
            StorageError: The disk is full or cannot be written; nothing half-written is left.
            CheckpointError: A folder to be attached is gone.
        """
        step = snapshot.progress.step
        path = self._folder / step_folder_name(step)
        atomic.sweep(self._folder)
        _check_space(path, snapshot)
        with atomic.folder(path) as partial:
            _write(partial, snapshot)
        self._damaged.pop(step, None)
        self._untold.append(Saved(step, snapshot.metrics, str(path)))
        self._rotate(step)

    def poll(self) -> Sequence[Saved]:
        """Checkpoints that became durable since the last call."""
        told, self._untold = self._untold, []
        return told

    def drain(self) -> Sequence[Saved]:
        """The ones that `poll` has not told yet; there is nothing to wait for."""
        return self.poll()

    def _rotate(self, just_saved: int) -> None:
        there = [Kept(saved.step, (saved.metrics or {}).get("loss")) for saved in self.list()]
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


def _check_space(path: Path, snapshot: Snapshot) -> None:
    attached = sum(file.stat().st_size for folder in snapshot.attachments.values() for file in _files_under(folder))
    needed = sum(map(stored_bytes, snapshot.tensors.values())) + attached + len(snapshot.config) + _OVERHEAD_BYTES
    free = free_bytes(path)
    if needed > free:
        raise StorageError(
            f"Could not write {path}: it needs {readable_size(needed)}, and {readable_size(free)} are free there; "
            "free some space, lower checkpointing.keep_last, or set MLP_HOME to a folder on another disk. "
            "The checkpoints before it are untouched."
        )


def _write(partial: Path, snapshot: Snapshot) -> None:
    """Fill a checkpoint folder: tensors, attachments, small files, the manifest last."""
    files: dict[str, FileRecord] = {}
    # A file is flushed to the disk while the next one is written.
    with ThreadPoolExecutor(1) as flusher:
        flushed: list[Future[None]] = []
        for group, tensors in sorted(snapshot.tensors.items()):
            name = f"{group}{TENSOR_SUFFIX}"
            files[name] = write_tensors(partial / name, tensors)
            flushed.append(flusher.submit(atomic.sync_file, partial / name))
        for name, content in _small_files(snapshot).items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
            files[name] = FileRecord(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for future in flushed:
            future.result()
    (partial / MANIFEST).write_bytes(manifest_text(files).encode())


def _small_files(snapshot: Snapshot) -> Mapping[str, bytes]:
    """Name -> content of everything but tensors and manifest."""
    progress = snapshot.progress
    record = ProgressFile(
        step=progress.step,
        max_steps=progress.max_steps,
        epoch=progress.epoch,
        targets=progress.targets,
        elapsed_s=progress.elapsed_s,
        metrics=None if snapshot.metrics is None else dict(snapshot.metrics),
        lr_factor=snapshot.lr_factor,
        ending=snapshot.ending,
        data_fingerprint=snapshot.data_fingerprint,
    )
    attachments = {
        f"{name}/{file.relative_to(folder).as_posix()}": file.read_bytes()
        for name, folder in sorted(snapshot.attachments.items())
        for file in _files_under(folder)
    }
    return attachments | {
        PROGRESS: record.model_dump_json(indent=1).encode(),
        CONFIG: snapshot.config.encode(),
        HOOKS: json.dumps(snapshot.hooks, indent=1).encode(),
    }


def _files_under(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is gone, and every checkpoint carries a copy of it; restore it, or prepare the data again."
        )
    return sorted(file for file in folder.rglob("*") if file.is_file())
