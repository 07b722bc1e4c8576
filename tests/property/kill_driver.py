"""Saves checkpoints in child processes that die at their n-th file operation, for every n; prints what was found afterwards.

Run as `python -m tests.property.kill_driver FOLDER`. One process imports torch and forks the children, so each costs milliseconds.
"""

import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count as count_up
from pathlib import Path

import torch
from benchmarks.forked import ended, in_child

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core.atomic import write_file
from ml_playground.core.checkpoint_format import list_complete, step_folder_name
from ml_playground.core.values import Progress
from ml_playground.training.checkpoint_protocols import Saved, Snapshot
from ml_playground.training.checkpointing.directory_store import DirectoryStore

KILLED = 137
FILE_OPERATIONS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.scandir", "fcntl.flock")
SETTINGS = CheckpointingSettings(keep_last=2, keep_best=0)

LENGTHS = (5_000, 100_000, 5_000_000, 20_000_000, 40_000_000, 60_000_000)
"""Bytes of a file of 64 MB after which its writer is killed; all other files of a checkpoint are shorter."""

SCENARIOS = {
    "first": ([], 1),
    "rotating": ([1, 2], 3),
    "replacing_the_only_one": ([1], 1),
}
"""Name -> steps that were saved before, and the step in whose save the child dies."""


def snapshot(step: int, tokenizer: Path, mark: float) -> Snapshot:
    """A snapshot that tells who wrote it."""
    return Snapshot(
        progress=Progress(step, 100, 0.0, 0.0, 0.0),
        tensors={"model": {"w": torch.tensor([mark])}, "optimizer": {"m": torch.tensor([mark])}},
        hooks={},
        config="{}",
        data_fingerprint="",
        attachments={"tokenizer": tokenizer},
    )


def save(store: DirectoryStore, new: Snapshot) -> None:
    """Save to the end, beside this thread; a child that fails must not look like one that was killed."""
    store.begin_save(new)
    if not all(isinstance(outcome, Saved) and not outcome.problem for outcome in store.drain()):
        raise SystemExit("a save failed")


def killed_at(operation: int, action: Callable[[], None]) -> int:
    """Exit code of a child that acts and dies before its `operation`-th file operation."""
    left = operation

    def count(event: str, _arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in FILE_OPERATIONS:
            left -= 1
            if left < 0:
                os._exit(KILLED)

    def counted() -> None:
        sys.addaudithook(count)
        action()

    return ended(in_child(counted))


def faults(folder: Path, before: list[int], step: int, tokenizer: Path) -> list[str]:
    """What is wrong after a kill, in words."""
    found: list[str] = []
    allowed = {(max(before), 1.0)} if before else {None}
    allowed.add((step, 2.0))
    checkpoint = DirectoryStore(folder, SETTINGS).latest()
    seen = None if checkpoint is None else (checkpoint.progress.step, checkpoint.tensors()["model"]["w"].item())
    if seen not in allowed:
        found.append(f"latest is {seen}, allowed are {allowed}")
    save(DirectoryStore(folder, SETTINGS), snapshot(50, tokenizer, 3.0))
    names = sorted(entry.name for entry in folder.iterdir())
    whole = [step_folder_name(kept.progress.step) for kept in list_complete(folder)]
    if names != whole or len(names) > SETTINGS.keep_last or step_folder_name(50) not in names:
        found.append(f"the next save leaves {names}, of which are whole {whole}")
    return found


def kill_saves(place: Path, before: list[int], step: int) -> dict[str, object]:
    """Kill a save at each operation in turn until a child lives."""
    tokenizer, base = place / "tokenizer", place / "base"
    tokenizer.mkdir(parents=True)
    base.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    for old in before:
        save(DirectoryStore(base, SETTINGS), snapshot(old, tokenizer, 1.0))
    found: list[str] = []
    new = snapshot(step, tokenizer, 2.0)
    for operation in count_up():
        folder = place / f"killed_{operation}"
        shutil.copytree(base, folder)
        code = killed_at(operation, partial(save, DirectoryStore(folder, SETTINGS), new))
        found += [f"operation {operation}: {fault}" for fault in faults(folder, before, step, tokenizer)]
        if code != KILLED:
            break
    return {"operations": operation, "exit_code": code, "faults": found}


def kill_inside_a_file(place: Path) -> dict[str, object]:
    """Kill a save of 64 MB while its tensors are being written, at several lengths of the file; counts the hits."""
    tokenizer = place / "tokenizer"
    tokenizer.mkdir(parents=True)
    (tokenizer / "tokenizer.json").write_text("{}")
    found: list[str] = []
    hits = 0
    for number, length in enumerate(LENGTHS):
        folder = place / f"killed_{length}"
        save(DirectoryStore(folder, SETTINGS), snapshot(1, tokenizer, 1.0))
        parts = {f"w{part}": torch.full((1_000_000,), float(part)) for part in range(16)}
        large = replace(snapshot(2, tokenizer, 2.0), tensors={"model": {"w": torch.tensor([2.0]), **parts}})
        code = ended(in_child(partial(save_within, length, DirectoryStore(folder, SETTINGS), large)))
        left = length_of(folder / ".step_000002.partial" / "new" / "model.safetensors")
        hits += (code, left) == (-signal.SIGXFSZ, length)
        found += [f"kill {number}: {fault}" for fault in faults(folder, [1], 2, tokenizer)]
    return {"operations": hits, "exit_code": 0, "faults": found}


def save_within(length: int, store: DirectoryStore, new: Snapshot) -> None:
    """Save; the write that would make a file longer than this ends the process, as SIGKILL would at that very byte."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, length))
    save(store, new)


def length_of(file: Path) -> int:
    """Bytes of a file; -1 where there is none."""
    try:
        return file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1


def kill_file_writes(place: Path) -> dict[str, object]:
    """Kill the replacement of a file at each operation in turn until a child lives."""
    found: list[str] = []
    for operation in count_up():
        path = place / f"killed_{operation}" / "a.txt"
        write_file(path, "old")
        code = killed_at(operation, partial(write_file, path, "new" * 100_000))
        if path.read_text() not in ("old", "new" * 100_000):
            found.append(f"operation {operation}: half-written")
        write_file(path, "next")
        if path.read_text() != "next" or [entry.name for entry in path.parent.iterdir()] != ["a.txt"]:
            found.append(f"operation {operation}: the next write is not clean")
        if code != KILLED:
            break
    return {"operations": operation, "exit_code": code, "faults": found}


def main(place: Path) -> None:
    """All scenarios, as one JSON object."""
    torch.set_num_threads(1)
    report = {name: kill_saves(place / name, before, step) for name, (before, step) in SCENARIOS.items()}
    report |= {
        "write_file": kill_file_writes(place / "write_file"),
        "inside_a_file": kill_inside_a_file(place / "inside"),
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
