"""Checkpoints as folders: what is on the disk, and what happens when the disk fails."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core.checkpoint_format import list_complete, verify
from ml_playground.core.error_handling import CheckpointError, StorageError
from ml_playground.core.values import Progress
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from ml_playground.training.protocols import Snapshot

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
    store.begin_save(replace(snapshot(500), attachments={"tokenizer": tmp_path / "tokenizer"}))
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
        DirectoryStore(tmp_path / name, KEEP_ALL).begin_save(snapshot(1))
    for file in (tmp_path / "a" / "step_000001").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "step_000001" / file.name).read_bytes()


def test_begin_save_attachment_gone_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    """A checkpoint without its tokenizer would be of no use alone."""
    store = DirectoryStore(tmp_path / "checkpoints", KEEP_ALL)
    with pytest.raises(CheckpointError, match=r"tokenizer is gone, and every checkpoint carries a copy of it; restore"):
        store.begin_save(replace(snapshot(1), attachments={"tokenizer": tmp_path / "tokenizer"}))
    assert store.poll() == []
    assert not (tmp_path / "checkpoints").exists() or names_in(tmp_path / "checkpoints") == []


def test_begin_save_hook_state_that_is_no_json_leaves_nothing(tmp_path: Path) -> None:
    """A faulty hook is an error with a traceback, and no half checkpoint."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    with pytest.raises(TypeError, match="not JSON serializable"):
        store.begin_save(replace(snapshot(1), hooks={"bad": {"object": object()}}))
    assert names_in(tmp_path) == []


def test_begin_save_more_than_is_free_is_refused_before_writing(tmp_path: Path) -> None:
    """A petabyte does not fit, and the message says how much is missing."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    store.begin_save(snapshot(1))
    huge = replace(snapshot(2), tensors={"model": {"w": torch.zeros(1).expand(250 * 10**12)}})
    with pytest.raises(
        StorageError,
        match=r"step_000002: it needs 1000\.0 TB, and .* are free there; free some space, lower checkpointing\.keep_last, "
        r"or set MLP_HOME to a folder on another disk\. The checkpoints before it are untouched",
    ):
        store.begin_save(huge)
    assert names_in(tmp_path) == ["step_000001"]


def test_begin_save_sweeps_what_killed_savers_left(tmp_path: Path) -> None:
    """A half checkpoint of another step does not stay for ever."""
    (tmp_path / ".step_000733.partial" / "new").mkdir(parents=True)
    (tmp_path / ".step_000733.partial" / "new" / "model.safetensors").write_bytes(b"half")
    DirectoryStore(tmp_path, KEEP_ALL).begin_save(snapshot(1))
    assert names_in(tmp_path) == ["step_000001"]


def test_latest_damaged_newest_falls_back_and_is_not_counted_by_rotation(tmp_path: Path) -> None:
    """A damaged checkpoint never pushes out a whole one."""
    DirectoryStore(tmp_path, KEEP_ALL).begin_save(snapshot(10))
    DirectoryStore(tmp_path, KEEP_ALL).begin_save(snapshot(20))
    flip(tmp_path / "step_000020" / "model.safetensors")
    store = DirectoryStore(tmp_path, KEEP_ONE)
    found = store.latest()
    assert found is not None
    assert found.progress.step == 10
    assert len(store.problems) == 1
    assert "step_000020 is damaged: model.safetensors has sha256" in store.problems[0]
    store.begin_save(snapshot(15))
    assert [saved.step for saved in store.list()] == [15]
    assert names_in(tmp_path) == ["step_000015", "step_000020"]


def test_begin_save_over_a_damaged_checkpoint_mends_it(tmp_path: Path) -> None:
    """A step that is trained again after a fallback is whole again."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    store.begin_save(snapshot(5))
    store.begin_save(snapshot(10))
    (tmp_path / "step_000010" / "MANIFEST.json").unlink()
    whole = store.latest()
    assert whole is not None
    assert (whole.progress.step, len(store.problems)) == (5, 1)
    store.begin_save(snapshot(10))
    assert list(store.problems) == []
    assert [saved.step for saved in store.list()] == [5, 10]


def test_latest_when_none_is_whole_names_each(tmp_path: Path) -> None:
    """Nothing and nothing whole are not the same."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    for step in (5, 10):
        store.begin_save(snapshot(step))
        (tmp_path / f"step_{step:06d}" / "MANIFEST.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"(?s)No checkpoint in .* is whole:.*step_000010.*step_000005.*begin a new run"
    ):
        store.latest()


def test_open_after_the_file_was_removed_says_which(tmp_path: Path) -> None:
    """Somebody tidies up between opening and reading."""
    store = DirectoryStore(tmp_path, KEEP_ALL)
    store.begin_save(snapshot(10))
    opened = store.open(10)
    (tmp_path / "step_000010" / "ema.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"ema\.safetensors cannot be read as tensors"):
        opened.tensors()


def test_store_on_a_path_under_a_file_is_refused(tmp_path: Path) -> None:
    """The message says what is wrong with the place."""
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match="a part of this path is a file, not a folder"):
        DirectoryStore(tmp_path / "runs" / "checkpoints", KEEP_ALL).begin_save(snapshot(1))


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
    store.begin_save(large)
    (disk / "ballast").write_bytes(b"x" * 1_500_000)
    with pytest.raises(StorageError, match=r"step_000002: it needs 2\.2 MB, and .* are free there"):
        store.begin_save(replace(large, progress=Progress(2, 9, 0.0, 0.0, 0.0)))
    assert names_in(disk / "checkpoints") == ["step_000001"]
    verify(disk / "checkpoints" / "step_000001")
    (disk / "ballast").unlink()
    store.begin_save(snapshot(3))
    assert [found.progress.step for found in list_complete(disk / "checkpoints")] == [1, 3]


def test_disk_that_fills_while_saving_leaves_nothing_half_written(disk: Path) -> None:
    """The estimate cannot see everything: no more files may be made here, though bytes are free."""
    store = DirectoryStore(disk / "checkpoints", KEEP_ALL)
    store.begin_save(snapshot(1))
    subprocess.run(["mount", "-o", "remount,nr_inodes=17", disk], check=True)
    with pytest.raises(StorageError, match=r"step_000002: the disk is full .*Nothing half-written was left"):
        store.begin_save(snapshot(2))
    assert names_in(disk / "checkpoints") == ["step_000001"]
    assert [saved.step for saved in store.poll()] == [1]
    assert store.latest() is not None


def test_read_only_disk_says_so_and_can_still_be_read(disk: Path) -> None:
    """A disk that was remounted after an error."""
    store = DirectoryStore(disk / "checkpoints", KEEP_ALL)
    store.begin_save(snapshot(1))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(StorageError, match=r"step_000002: the file system is read-only"):
        store.begin_save(snapshot(2))
    found = store.latest()
    assert found is not None
    assert found.progress.step == 1
