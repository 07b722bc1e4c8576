"""Checkpoints as folders: what is on the disk, and what happens when the disk fails."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core.checkpoint_format import list_complete, verify
from ml_playground.core.error_handling import CheckpointError, StorageError
from ml_playground.core.file_locks import locked_folder
from ml_playground.core.foreign_files import DEEPEST_JSON, MOST_JSON_BYTES
from ml_playground.core.values import Progress
from ml_playground.training.checkpoint_protocols import NotSaved, Saved, Snapshot
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from ml_playground.training.checkpointing.snapshot_buffer import Copied, SnapshotBuffer
from ml_playground.training.protocols import TensorGroups
from tests.fakes.saving import save

KEEP_ALL = CheckpointingSettings(keep_last=100, keep_best=0)
KEEP_ONE = CheckpointingSettings(keep_last=1, keep_best=0)


def snapshot(step: int, numbers: int = 4) -> Snapshot:
    """A snapshot of three groups."""
    weight = torch.arange(float(numbers))
    return Snapshot(
        progress=Progress(step, 100, 0.25, 64.0, 1.5),
        tensors={"model": {"w": weight}, "ema": {"w": weight / 2}, "optimizer": {"exp_avg/w": -weight}},
        hooks={"samples": {"drawn": 3}},
        config='{"name": "a"}',
        data_fingerprint="abc",
        metrics={"loss": 2.0},
    )


def names_in(folder: Path) -> list[str]:
    """What lies in a folder, hidden things too."""
    return sorted(entry.name for entry in folder.iterdir())


def flip(path: Path) -> None:
    """Change one byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_begin_save_writes_the_files_of_the_format(tmp_path: Path) -> None:
    """One file for each group, the tokenizer's folder, three small files and the manifest of all."""
    (tmp_path / "tokenizer" / "sub").mkdir(parents=True)
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer" / "sub" / "merges").write_bytes(b"\x00\xff")
    store = DirectoryStore(tmp_path / "checkpoints", KEEP_ALL)
    save(store, replace(snapshot(500), attachments={"tokenizer": tmp_path / "tokenizer"}))
    path = tmp_path / "checkpoints" / "step_000500"
    assert names_in(path) == [
        "MANIFEST.json",
        "config.json",
        "ema.safetensors",
        "hooks.json",
        "model.safetensors",
        "optimizer.safetensors",
        "progress.json",
        "tokenizer",
    ]
    assert (path / "tokenizer" / "sub" / "merges").read_bytes() == b"\x00\xff"
    listed = json.loads((path / "MANIFEST.json").read_text())["files"]
    assert "tokenizer/sub/merges" in listed
    assert "MANIFEST.json" not in listed
    assert store.open(500).groups == ["ema", "model", "optimizer"]
    verify(path)


def test_begin_save_equal_state_gives_equal_bytes(tmp_path: Path) -> None:
    """Exact resume is checked by comparing whole folders."""
    for name in ("a", "b"):
        save(DirectoryStore(tmp_path / name, KEEP_ALL), snapshot(1))
    for file in (tmp_path / "a" / "step_000001").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "step_000001" / file.name).read_bytes()


def test_begin_save_attachment_gone_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    """A checkpoint without its tokenizer would be of no use alone."""
    store = DirectoryStore(tmp_path / "checkpoints", KEEP_ALL)
    with pytest.raises(CheckpointError, match=r"tokenizer is gone, and every checkpoint carries a copy of it; restore"):
        save(store, replace(snapshot(1), attachments={"tokenizer": tmp_path / "tokenizer"}))
    assert store.drain() == []
    assert not (tmp_path / "checkpoints").exists() or names_in(tmp_path / "checkpoints") == []


def test_begin_save_hook_state_that_is_no_json_leaves_nothing(tmp_path: Path) -> None:
    """A faulty hook is an error with a traceback, and no half checkpoint."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    with pytest.raises(TypeError, match="not JSON serializable"):
        save(store, replace(snapshot(1), hooks={"bad": {"object": object()}}))
    assert names_in(tmp_path) == []


def test_begin_save_more_than_is_free_is_refused_before_writing(tmp_path: Path) -> None:
    """A petabyte does not fit, and the message says how much is missing."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    save(store, snapshot(1))
    huge = replace(snapshot(2), tensors={"model": {"w": torch.zeros(1).expand(250 * 10**12)}})
    with pytest.raises(
        StorageError,
        match=r"step_000002: it needs 1000\.0 TB, and .* are free there; free some space, lower checkpointing\.keep_last, "
        r"or set MLP_HOME to a folder on another disk\. The checkpoints before it are untouched",
    ):
        save(store, huge)
    assert names_in(tmp_path) == ["step_000001"]


def test_begin_save_sweeps_what_killed_savers_left(tmp_path: Path) -> None:
    """A half checkpoint of another step does not stay for ever."""
    (tmp_path / ".step_000733.partial" / "new").mkdir(parents=True)
    (tmp_path / ".step_000733.partial" / "new" / "model.safetensors").write_bytes(b"half")
    save(DirectoryStore(tmp_path, KEEP_ALL), snapshot(1))
    assert names_in(tmp_path) == ["step_000001"]


def test_latest_damaged_newest_falls_back_and_is_not_counted_by_rotation(tmp_path: Path) -> None:
    """A damaged checkpoint never pushes out a whole one."""
    save(DirectoryStore(tmp_path, KEEP_ALL), snapshot(10))
    save(DirectoryStore(tmp_path, KEEP_ALL), snapshot(20))
    flip(tmp_path / "step_000020" / "model.safetensors")
    store = DirectoryStore(tmp_path, KEEP_ONE)
    found = store.latest()
    assert found is not None
    assert found.progress.step == 10
    assert len(store.problems) == 1
    assert "step_000020 is damaged: model.safetensors has sha256" in store.problems[0]
    save(store, snapshot(15))
    assert [saved.step for saved in store.list()] == [15]
    assert names_in(tmp_path) == ["step_000015", "step_000020"]


def test_begin_save_over_a_damaged_checkpoint_mends_it(tmp_path: Path) -> None:
    """A step that is trained again after a fallback is whole again."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    save(store, snapshot(5))
    save(store, snapshot(10))
    (tmp_path / "step_000010" / "MANIFEST.json").unlink()
    whole = store.latest()
    assert whole is not None
    assert (whole.progress.step, len(store.problems)) == (5, 1)
    save(store, snapshot(10))
    assert list(store.problems) == []
    assert [saved.step for saved in store.list()] == [5, 10]


def test_latest_when_none_is_whole_names_each(tmp_path: Path) -> None:
    """Nothing and nothing whole are not the same."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    for step in (5, 10):
        save(store, snapshot(step))
        (tmp_path / f"step_{step:06d}" / "MANIFEST.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"(?s)No checkpoint in .* is whole:.*step_000010.*step_000005.*begin a new run"
    ):
        store.latest()


def test_open_after_the_file_was_removed_says_which(tmp_path: Path) -> None:
    """Somebody tidies up between opening and reading."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    save(store, snapshot(10))
    opened = store.open(10)
    (tmp_path / "step_000010" / "ema.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"ema\.safetensors cannot be read as tensors"):
        opened.tensors()


def test_store_on_a_path_under_a_file_is_refused(tmp_path: Path) -> None:
    """The message says what is wrong with the place."""
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match="a part of this path is a file, not a folder"):
        save(DirectoryStore(tmp_path / "runs" / "checkpoints", KEEP_ALL), snapshot(1))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, 4 MB, of memory."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", place], check=True)


def test_full_disk_saves_until_it_is_full_and_then_keeps_what_is_there(disk: Path) -> None:
    """The save that does not fit is refused; those before it are whole; with room again, saving goes on."""
    store = DirectoryStore(disk / "checkpoints", KEEP_ALL)
    large = snapshot(1, numbers=100_000)
    save(store, large)
    (disk / "ballast").write_bytes(b"x" * 1_500_000)
    with pytest.raises(StorageError, match=r"step_000002: it needs 2\.2 MB, and .* are free there"):
        save(store, replace(large, progress=Progress(2, 9, 0.0, 0.0, 0.0)))
    assert names_in(disk / "checkpoints") == ["step_000001"]
    verify(disk / "checkpoints" / "step_000001")
    (disk / "ballast").unlink()
    save(store, snapshot(3))
    assert [found.progress.step for found in list_complete(disk / "checkpoints")] == [1, 3]


def test_disk_that_fills_while_saving_leaves_nothing_half_written(disk: Path) -> None:
    """The estimate cannot see everything: no more files may be made here, though bytes are free."""
    store = DirectoryStore(disk / "checkpoints", KEEP_ALL)
    save(store, snapshot(1))
    subprocess.run(["mount", "-o", "remount,nr_inodes=17", disk], check=True)
    with pytest.raises(StorageError, match=r"step_000002: the disk is full .*Nothing half-written was left"):
        save(store, snapshot(2))
    assert names_in(disk / "checkpoints") == ["step_000001"]
    assert store.latest() is not None


def test_read_only_disk_says_so_and_can_still_be_read(disk: Path) -> None:
    """A disk that was remounted after an error."""
    store = DirectoryStore(disk / "checkpoints", KEEP_ALL)
    save(store, snapshot(1))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(StorageError, match=r"step_000002: the file system is read-only"):
        save(store, snapshot(2))
    found = store.latest()
    assert found is not None
    assert found.progress.step == 1


class Gate:
    """What stands for the arrival of the last copy from a GPU: it comes when the test says so."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.open = self._open.set

    def synchronize(self) -> None:
        """Wait for it."""
        self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        assert self._open.wait(60)


class SlowBuffer(SnapshotBuffer):
    """Each snapshot's last copy waits at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[Gate] = []
        self.copies: list[Copied] = []

    def copy(self, groups: TensorGroups) -> Copied | None:
        copied = super().copy(groups)
        assert copied is not None
        self.gates.append(Gate())
        self.copies.append(copied)
        return copied._replace(arrived=self.gates[-1])


def writers() -> list[str]:
    """Threads that write checkpoints, by name."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("checkpoint")]


def test_begin_save_returns_while_the_checkpoint_is_still_absent(tmp_path: Path) -> None:
    """Training goes on; nobody hears of a checkpoint before it is whole."""
    buffer = SlowBuffer()
    store = DirectoryStore(tmp_path, KEEP_ALL, buffer=buffer)
    saved = snapshot(1)
    store.begin_save(saved)
    assert store.poll() == []
    assert list_complete(tmp_path) == []
    saved.tensors["model"]["w"].fill_(99.0)
    buffer.gates[0].open()
    assert [outcome.step for outcome in store.drain()] == [1]
    assert store.open(1).tensors()["model"]["w"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_begin_save_during_another_waits_for_it_and_loses_neither(tmp_path: Path) -> None:
    """One buffer: the second snapshot is copied when the first is written."""
    buffer = SlowBuffer()
    store = DirectoryStore(tmp_path, KEEP_ALL, buffer=buffer)
    store.begin_save(snapshot(1))
    second = threading.Thread(target=store.begin_save, args=[snapshot(2, numbers=5)])
    second.start()
    second.join(0.1)
    assert second.is_alive()
    assert len(buffer.gates) == 1
    buffer.gates[0].open()
    second.join()
    buffer.gates[1].open()
    assert [type(outcome) for outcome in store.drain()] == [Saved, Saved]
    assert [len(store.open(step).tensors()["model"]["w"]) for step in (1, 2)] == [4, 5]


def test_prepare_then_begin_save_uses_the_block_that_was_made(tmp_path: Path) -> None:
    """No memory is asked for while training stands still, in this save or a later one."""
    buffer = SnapshotBuffer()
    store = DirectoryStore(tmp_path, KEEP_ALL, buffer=buffer)
    store.prepare(snapshot(1).tensors)
    assert store.drain() == []
    places = []
    for step in (1, 2):
        copied = buffer.copy(snapshot(step).tensors)
        assert copied is not None
        places.append(copied.groups["model"]["w"].data_ptr())
        save(store, snapshot(step))
    assert places[0] == places[1]


def test_begin_save_without_memory_for_a_buffer_writes_before_it_returns(tmp_path: Path) -> None:
    """Slower, but the same bytes."""
    with_buffer, without = (
        DirectoryStore(tmp_path / "a", KEEP_ALL),
        DirectoryStore(tmp_path / "b", KEEP_ALL, buffer=SnapshotBuffer(most_bytes=10)),
    )
    save(with_buffer, snapshot(1))
    without.prepare(snapshot(1).tensors)
    saved = snapshot(1)
    without.begin_save(saved)
    saved.tensors["model"]["w"].fill_(99.0)
    assert [type(outcome) for outcome in without.poll()] == [Saved]
    for file in (tmp_path / "a" / "step_000001").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "step_000001" / file.name).read_bytes()


class Noting(dict[str, torch.Tensor]):
    """A group that notes the priority of the thread that writes it."""

    niceness = -99

    def values(self) -> Any:
        self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return super().values()

    def __getitem__(self, name: str) -> torch.Tensor:
        self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return super().__getitem__(name)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_writing_steps_back_for_training(tmp_path: Path) -> None:
    """Which has the processor first."""
    buffer = SlowBuffer()
    store = DirectoryStore(tmp_path, KEEP_ALL, buffer=buffer)
    here = os.getpriority(os.PRIO_PROCESS, 0)
    store.begin_save(snapshot(1))
    buffer.gates[0].open()
    store.drain()
    assert buffer.gates[0].niceness == max(here, 10)
    assert os.getpriority(os.PRIO_PROCESS, 0) == here


def test_last_save_is_written_from_where_the_tensors_are_and_steps_back_for_nobody(tmp_path: Path) -> None:
    """After it nothing is computed, and somebody waits: a copy would cost memory and time, and save neither."""
    buffer = SlowBuffer()
    store = DirectoryStore(tmp_path, KEEP_ALL, buffer=buffer)
    last = replace(snapshot(1), ending="completed")
    noting = Noting(last.tensors["model"])
    store.begin_save(replace(last, tensors=last.tensors | {"model": noting}))  # type: ignore[operator]
    assert [outcome.step for outcome in store.poll()] == [1]
    assert buffer.gates == []
    assert store.open(1).tensors()["model"]["w"].tolist() == [0.0, 1.0, 2.0, 3.0]
    if sys.platform == "linux":
        assert noting.niceness == os.getpriority(os.PRIO_PROCESS, 0)


def test_copy_is_let_go_of_when_it_is_written(tmp_path: Path) -> None:
    """The next step wants its memory; the originals stay."""
    buffer = SlowBuffer()
    store = DirectoryStore(tmp_path, KEEP_ALL, buffer=buffer)
    saved = snapshot(1)
    store.begin_save(saved)
    buffer.gates[0].open()
    store.drain()
    assert {group: len(named) for group, named in buffer.copies[0].groups.items()} == dict.fromkeys(saved.tensors, 0)
    assert saved.tensors["model"]["w"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_saves_leave_no_thread(tmp_path: Path) -> None:
    """A process that goes on after a run has nothing of it."""
    buffer = SlowBuffer()
    store = DirectoryStore(tmp_path, KEEP_ALL, buffer=buffer)
    store.begin_save(snapshot(1))
    assert len(writers()) == 1
    buffer.gates[0].open()
    store.drain()
    assert writers() == []


def test_save_flushes_each_file_and_folder_once(tmp_path: Path) -> None:
    """Six files, their folder, the workspace around it, and the folder of all checkpoints."""
    flushed = 0

    def count(_frame: object, event: str, called: object) -> None:
        nonlocal flushed
        flushed += event == "c_call" and called is os.fsync

    store = DirectoryStore(tmp_path, KEEP_ALL)
    threading.setprofile(count)
    try:
        save(store, snapshot(1))
    finally:
        threading.setprofile(None)
    assert flushed == 6 + 3 + 1


def test_tensor_of_a_type_that_cannot_be_stored_is_raised_when_the_save_is_settled(tmp_path: Path) -> None:
    """A fault of the program, unlike a full disk, is no outcome but an error with a traceback."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    with pytest.raises(TypeError, match="'w' has type torch.complex128, which safetensors cannot hold"):
        save(store, replace(snapshot(1), tensors={"model": {"w": torch.zeros(2, dtype=torch.complex128)}}))
    assert names_in(tmp_path) == []
    assert [saved.step for saved in save(store, snapshot(2))] == [2]


def test_checkpoint_that_cannot_be_dropped_does_not_unsave_the_one_just_saved(tmp_path: Path) -> None:
    """It is durable; what is in the way is told beside it."""
    store = DirectoryStore(tmp_path, KEEP_ONE)
    save(store, snapshot(1))
    lock = locked_folder(tmp_path / ".step_000001.partial")
    assert lock is not None
    (saved,) = save(store, snapshot(2))
    os.close(lock)
    assert (saved.step, "step_000001 is being written by another process" in saved.problem) == (2, True)
    assert [kept.step for kept in store.list()] == [1, 2]
    save(store, snapshot(3))
    assert [kept.step for kept in store.list()] == [3]


def test_failed_save_is_told_once_and_the_next_one_succeeds(tmp_path: Path) -> None:
    """Outcomes come in the order of the saves."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    lock = locked_folder(tmp_path / ".step_000001.partial")
    assert lock is not None
    store.begin_save(snapshot(1))
    store.begin_save(snapshot(2))
    os.close(lock)
    assert [(type(outcome), outcome.step) for outcome in store.drain()] == [(NotSaved, 1), (Saved, 2)]
    assert store.drain() == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_begin_save_from_a_gpu_holds_what_was_there_before_later_kernels(tmp_path: Path) -> None:
    """The copies are queued before what changes the tensors; nobody waits for them but the writer."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    weight = torch.arange(1_000_000.0, device="cuda")
    store.begin_save(replace(snapshot(1), tensors={"model": {"w": weight, "t": weight[:10].view(2, 5).T}}))
    weight.mul_(0).add_(7)
    store.drain()
    tensors = store.open(1).tensors()["model"]
    assert torch.equal(tensors["w"], torch.arange(1_000_000.0))
    assert tensors["t"].tolist() == torch.arange(10.0).view(2, 5).T.tolist()


def test_begin_save_more_than_hooks_may_remember_names_the_hook_and_leaves_nothing(tmp_path: Path) -> None:
    """It could be written, but no resume would read it: the run ends with the reason, and with its last checkpoint."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    save(store, snapshot(1))
    with pytest.raises(CheckpointError) as caught:
        store.begin_save(replace(snapshot(2), hooks={"small": {"a": 1}, "hoarder": {"seen": "x" * MOST_JSON_BYTES}}))
    assert str(caught.value) == (
        "What the hooks remember takes 67.1 MB, most of it the hook 'hoarder' (67.1 MB); a checkpoint holds 67.1 MB of it at "
        "most, else no run could go on from it. Switch the hook off (--set hooks.hoarder.enabled=false), or let it keep large "
        "things in files."
    )
    assert names_in(tmp_path) == ["step_000001"]


def test_begin_save_state_nested_too_deep_is_refused(tmp_path: Path) -> None:
    """As a resume would refuse to read it."""
    deep = json.loads("[" * DEEPEST_JSON + "]" * DEEPEST_JSON)
    with pytest.raises(CheckpointError, match="could not be read back from a checkpoint: it is nested deeper than 50"):
        DirectoryStore(tmp_path, KEEP_ALL).begin_save(replace(snapshot(2), hooks={"deep": {"x": deep}}))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("tidies", [False, True])
def test_latest_removes_nothing_unless_it_tidies(tmp_path: Path, tidies: bool) -> None:
    """What a killed writer left, and what the last save of an ended run had no time to drop."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    for step in (1, 2):
        save(store, snapshot(step))
    save(store, replace(snapshot(3), ending="completed"))
    (tmp_path / ".step_000733.partial" / "new").mkdir(parents=True)
    before = names_in(tmp_path)
    found = DirectoryStore(tmp_path, KEEP_ONE).latest(tidies=tidies)
    assert found is not None
    assert found.progress.step == 3
    assert names_in(tmp_path) == (["step_000003"] if tidies else before)


def test_latest_that_does_not_tidy_reads_what_a_killed_replacement_set_aside(tmp_path: Path) -> None:
    """It lies there whole, under another name, and stays there."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    save(store, snapshot(1))
    aside = tmp_path / ".step_000001.partial"
    aside.mkdir()
    (tmp_path / "step_000001").rename(aside / "old")
    found = DirectoryStore(tmp_path, KEEP_ALL).latest(tidies=False)
    assert found is not None
    assert found.path == aside / "old"
    assert names_in(tmp_path) == [".step_000001.partial"]
