"""A disk that is full or may not be written, at every place where something is written."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_playground.cli import main as mlp
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, StorageError
from ml_playground.core.run_folder import RunFolder, data_folder
from ml_playground.data_pipeline.preparer import prepare
from tests.fakes.prepared_text import text_settings
from tests.fakes.tiny_job import tiny_job
from tests.faults.conftest import Tried
from tests.faults.forking import faults_of_a_resumed
from tests.faults.training import STEPS, disturbed, kinds_of, place_of, prepared_job, train


class Disk:
    """A disk of its own, 8 MB of memory, that can be filled and locked."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def fill(self) -> None:
        """Not a byte is left."""
        with (self.place / "ballast").open("wb", buffering=0) as ballast:
            for size_bytes in (1 << 16, 1 << 8, 1):
                while self._wrote(ballast.fileno(), size_bytes):
                    pass

    def leave(self, free_bytes: int) -> None:
        """So much is left."""
        (self.place / "ballast").unlink(missing_ok=True)
        ballast_bytes = shutil.disk_usage(self.place).free - free_bytes
        (self.place / "ballast").write_bytes(bytes(ballast_bytes))

    def empty(self) -> None:
        """There is room again."""
        (self.place / "ballast").unlink()

    def lock(self) -> None:
        """Read-only for all that is opened from now on, as after an error of the disk."""
        subprocess.run(["mount", "--bind", self.place, self.place], check=True)
        # It is busy for as long as a thread of the run has a file open for writing.
        until_s = time.monotonic() + 600
        while subprocess.run(
            ["mount", "-o", "remount,bind,ro", self.place], capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < until_s
            time.sleep(0.05)

    def unlock(self) -> None:
        """It can be written again."""
        subprocess.run(["umount", "-l", self.place], check=True)

    def _wrote(self, descriptor: int, size_bytes: int) -> bool:
        try:
            return os.write(descriptor, b"x" * size_bytes) > 0
        except OSError:
            return False


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Where runs and data lie."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only root may mount a small disk")
    monkeypatch.setenv("MLP_HOME", str(place))
    yield Disk(place)
    # Where mounts are shared, one that is bound over itself lies there twice.
    while place.is_mount():
        subprocess.run(["umount", "-l", place], check=True)


def test_disk_that_is_full_for_some_steps_costs_nothing(disk: Disk, tmp_path: Path, tried: Tried) -> None:
    """Metrics, events and samples are kept in memory; status and checkpoints come later; the run ends as if nothing had happened."""
    job = prepared_job(tmp_path)
    train(job, "whole")
    # Full during rows, an evaluation (step 4), a sample (5) and two checkpoints (6, 9).
    result = train(job, "full", disturbed({4: disk.fill, 10: disk.empty}))
    assert (result.reason, result.step) == ("completed", STEPS)
    run = place_of(job, "full")
    assert faults_of_a_resumed(run, place_of(job, "whole")) in ([], ["its checkpoints are of other steps"])
    assert kinds_of(run)[-1] == "ended"
    tried("full disk for some steps of a training")


def test_disk_that_is_full_to_the_end_says_so_and_the_next_start_goes_on(
    disk: Disk, tmp_path: Path, tried: Tried
) -> None:
    """The last save is what a run is for: it fails aloud, and with room again it ends with the same bits."""
    job = prepared_job(tmp_path)
    train(job, "whole")
    with pytest.raises(StorageError, match=r"step_000012: (it needs .* are free there|the disk is full)"):
        train(job, "full", disturbed({7: disk.fill}))
    disk.empty()
    assert train(job, "full").reason == "completed"
    assert faults_of_a_resumed(place_of(job, "full"), place_of(job, "whole")) == []
    tried("full disk to the end of a training")


def test_disk_that_becomes_read_only_says_so_and_the_next_start_goes_on(
    disk: Disk, tmp_path: Path, tried: Tried
) -> None:
    """A laptop's card, a network disk, an error of the file system."""
    job = prepared_job(tmp_path)
    train(job, "whole")
    with pytest.raises(StorageError, match="the file system is read-only"):
        train(job, "locked", disturbed({7: disk.lock}))
    with pytest.raises(StorageError, match="the file system is read-only|Read-only"):
        train(job, "locked")
    disk.unlock()
    assert train(job, "locked").reason == "completed"
    assert faults_of_a_resumed(place_of(job, "locked"), place_of(job, "whole")) == []
    tried("disk that becomes read-only", 2)


def test_run_that_the_flight_check_lets_begin_is_never_refused_a_save(disk: Disk, tmp_path: Path, tried: Tried) -> None:
    """However little is free: it is refused before its first step, or it has room for its last checkpoint."""
    job = prepared_job(tmp_path, runtime={"flight_check": True})
    ends: list[str] = []
    for free_kb in (1200, 1600, 2000, 2400, 2800):
        name = f"run{free_kb}"
        disk.leave(free_kb << 10)
        try:
            ends.append(train(job, name).reason)
        except ConfigError as refused:
            ends.append(str(refused)[:13])
        shutil.rmtree(place_of(job, name).path, ignore_errors=True)
    assert ends == sorted(ends)
    assert set(ends) == {"The run needs", "completed"}
    tried("disks with little room at the start of a training", len(ends))


def test_disk_that_is_full_before_the_start_says_so(disk: Disk, tmp_path: Path, tried: Tried) -> None:
    """Its user can mend it, is told how, and the next start begins the run."""
    job = prepared_job(tmp_path)
    disk.fill()
    with pytest.raises(StorageError, match="the disk is full|are free there"):
        train(job, "never")
    disk.empty()
    assert train(job, "never").reason == "completed"
    tried("full disk at the start of a training")


def test_failure_while_the_disk_is_full_is_the_one_that_is_raised(disk: Disk, tmp_path: Path, tried: Tried) -> None:
    """Its traceback cannot be kept, but what went wrong is not the disk."""

    def fail() -> None:
        disk.fill()
        raise ZeroDivisionError("a fault of ours")

    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        train(prepared_job(tmp_path), "failed", disturbed({5: fail}))
    tried("unexpected failure while the disk is full")


def test_prepare_on_a_full_disk_leaves_nothing_and_works_with_room(disk: Disk, tmp_path: Path, tried: Tried) -> None:
    """Nor does it take the room of what is there."""
    text = tmp_path / "large.txt"
    text.write_text("some words of a text, again and again\n" * 300_000)
    with pytest.raises(StorageError, match=r"the disk is full .*Nothing half-written was left"):
        prepare(text_settings(text), Deps())
    assert [path.name for path in data_folder().iterdir() if path.suffix != ".lock"] == []
    tiny_job(tmp_path)
    prepare(text_settings(tmp_path / "text.txt"), Deps())
    tried("full disk while preparing")


def test_sample_on_a_full_disk_still_shows_its_text(
    disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str], tried: Tried
) -> None:
    """What was drawn is on the screen; that it could not be kept is said, with the exit code of what can be mended."""
    job = prepared_job(tmp_path)
    train(job, "20260101-000000-aaaa")
    disk.fill()
    code = mlp(["sample", str(place_of(job, "20260101-000000-aaaa").path), "--set", "sample.max_new_tokens=5"])
    said = capsys.readouterr()
    assert code == 2
    assert "the disk is full" in said.err
    assert said.out.strip()
    disk.empty()
    tried("full disk while sampling")


def test_run_folder_that_is_removed_while_it_trains_holds_what_comes_after(tmp_path: Path, tried: Tried) -> None:
    """Somebody tidied up, while something was being written: what is written from there on is whole again."""
    job = prepared_job(tmp_path)
    run: RunFolder = place_of(job, "gone")
    result = train(job, "gone", disturbed({5: lambda: shutil.rmtree(run.path, ignore_errors=True)}))
    assert result.reason == "completed"
    assert (run.checkpoints / "step_000012").is_dir()
    tried("run folder removed while training")
