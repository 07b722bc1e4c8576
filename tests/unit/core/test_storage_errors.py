"""Failures of the disk, in words."""

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_playground.core.atomic import append_lines, folder, read_lines, remove_folder, sweep, write_file
from ml_playground.core.error_handling import StorageError
from ml_playground.core.storage_errors import as_storage_error, free_bytes, readable_size, storage_errors


@pytest.mark.parametrize(
    ("number", "reason", "remedy"),
    [
        (errno.ENOSPC, "the disk is full", "free some space or set MLP_HOME to a folder on another disk"),
        (errno.EDQUOT, "your quota on this disk is used up", "delete what you no longer need or set MLP_HOME"),
        (errno.EFBIG, "the file would be larger than allowed here", "raise the limit (ulimit -f) or set MLP_HOME"),
        (errno.EACCES, "permission denied", "give yourself the right to write in its folder, or set MLP_HOME"),
        (errno.EPERM, "the operation is not permitted", "give yourself the right to write in its folder"),
        (errno.EROFS, "the file system is read-only", "mount it writable or set MLP_HOME"),
        (errno.ENOTDIR, "a part of this path is a file, not a folder", "move it away or choose another name"),
        (errno.EEXIST, "something else of this name is in the way", "move it away or choose another name"),
        (errno.EISDIR, "a folder of this name is in the way", "move it away or choose another name"),
        (errno.ENAMETOOLONG, "the name is too long for this file system", "choose a shorter name"),
        (errno.ELOOP, "a link of this name is in the way", "remove it, for what is written could land anywhere"),
        (errno.EIO, "the disk reports an error", "check the disk, or set MLP_HOME"),
    ],
)
def test_as_storage_error_known_number_says_what_where_and_remedy(
    tmp_path: Path, number: int, reason: str, remedy: str
) -> None:
    """Each text names the file, the cause, the free space and what to do."""
    path = tmp_path / "missing" / "a.txt"
    text = str(as_storage_error(OSError(number, os.strerror(number)), path))
    assert text.startswith(f"Could not write {path}: {reason} (")
    assert "B free there); " + remedy in text
    assert text.endswith("Nothing half-written was left.")


def test_as_storage_error_unknown_number_is_none(tmp_path: Path) -> None:
    """What a user cannot mend keeps its traceback."""
    assert as_storage_error(OSError(errno.EBADF, "bad descriptor"), tmp_path) is None
    assert as_storage_error(OSError("no number"), tmp_path) is None


def test_storage_errors_failure_of_another_file_passes(tmp_path: Path) -> None:
    """A source that cannot be read is not a place that cannot be written."""
    with pytest.raises(PermissionError), storage_errors(tmp_path / "out" / "a.txt"):
        raise PermissionError(errno.EACCES, "no", str(tmp_path / "source.txt"))


def test_storage_errors_failure_of_a_file_descriptor_is_ours(tmp_path: Path) -> None:
    """Writes carry no name."""
    with pytest.raises(StorageError, match="the disk is full"), storage_errors(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2 * 10**9, "2.0 GB"), (10**15, "1000.0 TB")],
)
def test_readable_size_has_a_unit(size_bytes: int, text: str) -> None:
    """Sizes read as on the label of a disk."""
    assert readable_size(size_bytes) == text


def test_free_bytes_of_a_missing_place_is_that_of_its_disk(tmp_path: Path) -> None:
    """The question is asked before folders are made."""
    free = free_bytes(tmp_path / "a" / "b" / "c")
    assert abs(free - shutil.disk_usage(tmp_path).free) < 1 << 30


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 1,000 bytes: a full disk for those who may not mount one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB and its own, of memory."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.usefixtures("small_files")
def test_write_file_too_large_leaves_the_old_content(tmp_path: Path) -> None:
    """A write that fails in the middle is no write."""
    path = tmp_path / "a.txt"
    write_file(path, "old")
    with pytest.raises(StorageError, match="the file would be larger than allowed here"):
        write_file(path, "x" * 5000)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.usefixtures("small_files")
def test_append_lines_too_large_leaves_the_lines_before(tmp_path: Path) -> None:
    """The part of a line that still fitted is taken back."""
    path = tmp_path / "a.jsonl"
    append_lines(path, ["a" * 600])
    with pytest.raises(StorageError, match="the file would be larger than allowed here"):
        append_lines(path, ["b" * 600])
    assert path.stat().st_size == 601
    append_lines(path, ["c"])
    assert read_lines(path) == ["a" * 600, "c"]


def test_full_disk_every_writer_leaves_what_was_there(mounted: Path) -> None:
    """A file, lines and a folder that do not fit are absent, and there is room again afterwards."""
    write_file(mounted / "a.txt", "old")
    append_lines(mounted / "b.jsonl", ["one"])
    with pytest.raises(StorageError, match=r"a\.txt: the disk is full \(.*free there\)"):
        write_file(mounted / "a.txt", "x" * 100_000)
    with pytest.raises(StorageError, match=r"b\.jsonl: the disk is full"):
        append_lines(mounted / "b.jsonl", ["x" * 100_000])
    with pytest.raises(StorageError, match="c: the disk is full"), folder(mounted / "c") as partial:
        (partial / "x").write_bytes(b"x" * 100_000)
    assert sorted(entry.name for entry in mounted.iterdir()) == ["a.txt", "b.jsonl"]
    assert (mounted / "a.txt").read_text() == "old"
    assert read_lines(mounted / "b.jsonl") == ["one"]
    write_file(mounted / "d.txt", "x" * 20_000)


def test_read_only_disk_every_writer_says_so(mounted: Path) -> None:
    """A disk that was remounted after an error can still be read."""
    write_file(mounted / "a.txt", "old")
    (mounted / "data").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    match = "the file system is read-only .*; mount it writable"
    with pytest.raises(StorageError, match=match):
        write_file(mounted / "a.txt", "new")
    with pytest.raises(StorageError, match=match):
        append_lines(mounted / "a.txt", ["new"])
    with pytest.raises(StorageError, match=match):
        remove_folder(mounted / "data")
    with pytest.raises(StorageError, match=match), folder(mounted / "new" / "deep"):
        pytest.fail("never begun")
    assert (mounted / "a.txt").read_text() == "old"


def test_path_under_a_file_is_refused_by_every_writer(tmp_path: Path) -> None:
    """The commonest wrong path of all, whoever runs it."""
    (tmp_path / "a").write_text("a file")
    match = "a part of this path is a file, not a folder|something else of this name is in the way"
    with pytest.raises(StorageError, match=match):
        write_file(tmp_path / "a" / "b" / "c", "")
    with pytest.raises(StorageError, match=match):
        write_file(tmp_path / "a" / "b", "")
    with pytest.raises(StorageError, match=match):
        append_lines(tmp_path / "a" / "b", ["x"])
    with pytest.raises(StorageError, match=match), folder(tmp_path / "a" / "b"):
        pytest.fail("never begun")


def test_write_file_over_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder of that name is somebody's, and stays."""
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageError, match="a folder of this name is in the way"):
        write_file(tmp_path / "a", "")
    with pytest.raises(StorageError, match="a folder of this name is in the way"):
        append_lines(tmp_path / "a", ["x"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.fixture
def no_right(tmp_path: Path) -> Iterator[Path]:
    """A folder that may not be written; root may write anywhere, so its rights are laid down meanwhile."""
    tmp_path.chmod(0o555)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    yield tmp_path
    if was_root:
        os.seteuid(0)
    tmp_path.chmod(0o755)


def test_folder_without_right_every_writer_says_so(no_right: Path) -> None:
    """The message names the cause and the remedy, though even the free space may not be asked for there."""
    match = "permission denied .*; give yourself the right to write in its folder, or set MLP_HOME"
    with pytest.raises(StorageError, match=match):
        write_file(no_right / "a.txt", "")
    with pytest.raises(StorageError, match=match):
        append_lines(no_right / "a.txt", ["x"])
    with pytest.raises(StorageError, match=match), folder(no_right / "a"):
        pytest.fail("never begun")


def test_read_only_disk_leftovers_of_a_killed_writer_are_named_with_the_reason(mounted: Path) -> None:
    """Whoever clears them away meets the disk first, and the library names a bare file."""
    (mounted / ".a.partial" / "new" / "deep").mkdir(parents=True)
    (mounted / ".a.partial" / "new" / "deep" / "half.bin").write_bytes(b"x")
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    with pytest.raises(StorageError, match=r"a: the file system is read-only"):
        sweep(mounted)
    with pytest.raises(StorageError, match=r"a: the file system is read-only"), folder(mounted / "a"):
        pass
