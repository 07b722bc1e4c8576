"""Files, folders and lines that are complete or absent."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from ml_playground.core.atomic import (
    append_lines,
    cut_lines,
    file,
    folder,
    read_lines,
    remove_folder,
    standing,
    sweep,
    sync_file,
    write_file,
)
from ml_playground.core.error_handling import StorageError


def interrupted_file(path: Path) -> None:
    """A writer that fails half-way."""
    with file(path) as stream:
        stream.write(b"half")
        raise ZeroDivisionError


def interrupted_folder(path: Path) -> None:
    """A writer that fails half-way."""
    with folder(path) as partial:
        (partial / "new.txt").write_text("new")
        raise ZeroDivisionError


def names_in(path: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(entry.name for entry in path.iterdir())


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize(("content", "expected"), [("ä\r\n", b"\xc3\xa4\r\n"), (b"\x00\xff", b"\x00\xff"), ("", b"")])
def test_write_file_text_or_bytes_holds_exactly_these(
    tmp_path: Path, content: str | bytes, expected: bytes, durable: bool
) -> None:
    """Line ends and bytes are nobody's business on the way."""
    path = tmp_path / "new" / "deep" / "a.txt"
    write_file(path, content, durable=durable)
    assert path.read_bytes() == expected
    assert names_in(path.parent) == ["a.txt"]


def test_write_file_over_longer_leftover_holds_only_the_new_content(tmp_path: Path) -> None:
    """What a killed writer left is no part of the next content."""
    (tmp_path / ".a.txt.partial").write_text("x" * 1000)
    write_file(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names_in(tmp_path) == ["a.txt"]


def test_file_block_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    """An error while the content is made costs nothing that was there."""
    write_file(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError):
        interrupted_file(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_write_file_while_another_writes_waits_for_it(tmp_path: Path) -> None:
    """Two writers of one name finish one after the other, each whole."""
    path = tmp_path / "a.txt"
    second = threading.Thread(target=write_file, args=(path, "second"))
    with file(path) as stream:
        stream.write(b"first")
        second.start()
        second.join(timeout=0.05)
        assert second.is_alive()
        assert not path.exists()
    second.join()
    assert path.read_text() == "second"
    assert names_in(tmp_path) == ["a.txt"]


def test_folder_filled_appears_whole(tmp_path: Path) -> None:
    """Nothing is seen under the name before the block ends."""
    path = tmp_path / "new" / "data"
    with folder(path) as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "a.txt").write_text("a")
        assert not path.exists()
        assert partial == tmp_path / "new" / ".data.partial" / "new"
    assert (path / "sub" / "a.txt").read_text() == "a"
    assert names_in(path.parent) == ["data"]


def test_folder_that_exists_is_replaced(tmp_path: Path) -> None:
    """Old and new files are not mixed."""
    for name in ("old.txt", "new.txt"):
        with folder(tmp_path / "data") as partial:
            (partial / name).write_text(name)
    assert names_in(tmp_path / "data") == ["new.txt"]
    assert names_in(tmp_path) == ["data"]


def test_folder_block_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    """An error while the folder is filled costs nothing that was there."""
    with folder(tmp_path / "data") as partial:
        (partial / "old.txt").write_text("old")
    with pytest.raises(ZeroDivisionError):
        interrupted_folder(tmp_path / "data")
    assert names_in(tmp_path / "data") == ["old.txt"]
    assert names_in(tmp_path) == ["data"]


def test_folder_that_vanishes_while_it_is_filled_leaves_the_old_one(tmp_path: Path) -> None:
    """When the last rename fails, the old folder is put back."""
    with folder(tmp_path / "data") as partial:
        (partial / "old.txt").write_text("old")
    gone = "a folder of this path is gone and cannot be made"
    with pytest.raises(StorageError, match=gone), folder(tmp_path / "data") as partial:
        partial.rmdir()
    assert names_in(tmp_path / "data") == ["old.txt"]
    assert names_in(tmp_path) == ["data"]


def test_folder_leftover_of_a_dead_writer_is_removed(tmp_path: Path) -> None:
    """The next writer of the name begins with an empty folder."""
    leftover = tmp_path / ".data.partial"
    (leftover / "sub").mkdir(parents=True)
    (leftover / "sub" / "junk").write_text("junk")
    (leftover / "junk").write_text("junk")
    (leftover / "link").symlink_to(tmp_path)
    with folder(tmp_path / "data") as partial:
        assert names_in(partial) == []
    assert names_in(tmp_path) == ["data"]


def test_folder_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    """A live writer is not disturbed; the message says what to do."""
    path = tmp_path / "data"
    refused = pytest.raises(StorageError, match=r"data is being written by another process; wait until")
    with folder(path) as partial:
        (partial / "a.txt").write_text("a")
        with refused, folder(path):
            pytest.fail("two writers at once")
    assert names_in(path) == ["a.txt"]


def test_folder_where_a_file_is_in_the_way_is_refused(tmp_path: Path) -> None:
    """A user's file is not replaced by a folder."""
    (tmp_path / "data").write_text("mine")
    refused = pytest.raises(StorageError, match=r"data: something else of this name is in the way .*; move it away")
    with refused, folder(tmp_path / "data"):
        pytest.fail("never begun")
    assert (tmp_path / "data").read_text() == "mine"


def test_folder_partial_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Clearing away leftovers never reaches through a link."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a.txt").write_text("a")
    (tmp_path / ".data.partial").symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError, match="a part of this path is a file"), folder(tmp_path / "data"):
        pytest.fail("never begun")
    assert names_in(tmp_path / "precious") == ["a.txt"]


def test_standing_while_a_replacement_was_killed_is_the_old_folder(tmp_path: Path) -> None:
    """Between the two renames of a replacement the old folder is the one to read."""
    path = tmp_path / "data"
    assert standing(path) == path
    (tmp_path / ".data.partial" / "old").mkdir(parents=True)
    assert standing(path) == tmp_path / ".data.partial" / "old"
    path.mkdir()
    assert standing(path) == path


@pytest.mark.parametrize("heal", ["sweep", "next writer"])
@pytest.mark.parametrize("replaced", [True, False])
def test_killed_replacement_is_finished_or_taken_back(tmp_path: Path, heal: str, replaced: bool) -> None:
    """The old folder goes once the new one stands, and comes back if it does not."""
    path = tmp_path / "data"
    (tmp_path / ".data.partial" / "old").mkdir(parents=True)
    (tmp_path / ".data.partial" / "old" / "old.txt").write_text("old")
    if replaced:
        path.mkdir()
        (path / "new.txt").write_text("new")
    if heal == "sweep":
        sweep(tmp_path)
    else:
        with pytest.raises(ZeroDivisionError), folder(path):
            raise ZeroDivisionError
    assert names_in(path) == (["new.txt"] if replaced else ["old.txt"])
    assert names_in(tmp_path) == ["data"]


def test_sweep_spares_live_writers_files_and_strangers(tmp_path: Path) -> None:
    """Only folders that dead writers left are removed."""
    (tmp_path / ".dead.partial").mkdir()
    (tmp_path / ".dead.partial" / "junk").write_text("junk")
    (tmp_path / ".live.partial").mkdir()
    (tmp_path / ".file.partial").write_text("")
    (tmp_path / "data").mkdir()
    live = os.open(tmp_path / ".live.partial", os.O_RDONLY)
    fcntl.flock(live, fcntl.LOCK_EX)
    sweep(tmp_path)
    os.close(live)
    assert names_in(tmp_path) == [".file.partial", ".live.partial", "data"]


def test_sweep_of_a_missing_folder_does_nothing(tmp_path: Path) -> None:
    """There is nothing to clear away before the first save."""
    sweep(tmp_path / "missing")
    assert names_in(tmp_path) == []


def test_remove_folder_there_or_not_leaves_nothing(tmp_path: Path) -> None:
    """Removing twice is no error."""
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "sub" / "a.txt").write_text("a")
    remove_folder(tmp_path / "data")
    remove_folder(tmp_path / "data")
    assert names_in(tmp_path) == []


def test_sync_file_leaves_the_content(tmp_path: Path) -> None:
    """Waiting for the disk changes nothing."""
    (tmp_path / "a").write_text("a")
    sync_file(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "a"


@pytest.mark.parametrize("durable", [True, False])
def test_append_lines_adds_to_what_is_there(tmp_path: Path, durable: bool) -> None:
    """A missing file and missing folders are made."""
    path = tmp_path / "new" / "a.jsonl"
    append_lines(path, ["one"], durable=durable)
    append_lines(path, iter(["two", "dräi"]), durable=durable)
    append_lines(path, [], durable=durable)
    assert read_lines(path) == ["one", "two", "dräi"]
    assert path.read_bytes() == "one\ntwo\ndräi\n".encode()


def test_append_lines_with_line_feed_inside_is_refused(tmp_path: Path) -> None:
    """One line in is one line out."""
    with pytest.raises(ValueError, match=r"a line for .*a\.jsonl holds a line feed"):
        append_lines(tmp_path / "a.jsonl", ["one", "two\nthree"])
    assert names_in(tmp_path) == []


def test_append_lines_after_a_long_torn_line_cuts_it(tmp_path: Path) -> None:
    """The search for the last whole line goes back as far as it must."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\n" + b"x" * 200_000)
    append_lines(path, ["two"])
    assert path.read_bytes() == b"one\ntwo\n"


def test_read_lines_missing_file_has_none(tmp_path: Path) -> None:
    """A run that has written nothing yet can be read."""
    assert read_lines(tmp_path / "a.jsonl") == []


def test_read_lines_odd_characters_stay_inside_their_line(tmp_path: Path) -> None:
    """Only a line feed ends a line; bytes that are no text do not hide the other lines."""
    (tmp_path / "a").write_bytes("a\u2028b\x0c\r\n".encode() + b"\xff\n")
    assert read_lines(tmp_path / "a") == ["a\u2028b\x0c\r", "\ufffd"]


def test_cut_lines_drops_refused_and_torn_ones(tmp_path: Path) -> None:
    """Only complete lines are counted; damaged bytes of a kept line stay as they are."""
    path = tmp_path / "a"
    path.write_bytes(b"1\n2\xff\n3\n4")
    assert cut_lines(path, lambda line: not line.startswith("3")) == 1
    assert path.read_bytes() == b"1\n2\xff\n"
    assert cut_lines(path, lambda line: True) == 0
    assert names_in(tmp_path) == ["a"]


def test_cut_lines_missing_file_drops_none(tmp_path: Path) -> None:
    """Nothing is made where nothing was."""
    assert cut_lines(tmp_path / "a", lambda line: False) == 0
    assert names_in(tmp_path) == []
