"""Files that a stranger may have put where ours are expected."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core import atomic
from ml_playground.core.error_handling import StorageError
from ml_playground.core.foreign_files import DEEPEST_JSON, is_plain, json_table, parsed_json, read_at_most

# What could lead out of a folder, or into something else than a file, on one system or another.
TRICKS = [
    "",
    ".",
    "..",
    "../a",
    "a/../../b",
    "a/..",
    "./a",
    "a//b",
    "a/",
    "/etc/passwd",
    "//server/share",
    "C:/a",
    "C:a",
    "a:stream",
    "..\\a",
    "a\\b",
    "a\0b",
    "a\nb",
    "a\x1b[2J",
    "a\x7f",
    "con",
    "NUL",
    "aux.json",
    "com1.tokens",
    "LPT9.txt.gz",
    "nul .txt",
    "tokenizer/prn",
    "a.",
    "a ",
    "a./b",
    "x" * 256,
    "ü" * 128,
]


@pytest.mark.parametrize("name", TRICKS, ids=ascii)
def test_is_plain_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    """What one system takes for a file is a way out on another, and folders are carried between them."""
    assert not is_plain(name)


@pytest.mark.parametrize(
    "name", ["a", "model.safetensors", "tokenizer/tokenizer.json", "ünïcode name", "conmodel", ".hidden", "x" * 255]
)
def test_is_plain_name_of_a_file_is_taken(name: str) -> None:
    """Ours, and what a tokenizer's library may call its files."""
    assert is_plain(name)


@given(st.text(max_size=12), st.lists(st.sampled_from(["..", ".", "", "a", "/", "\\", "b.c"]), max_size=4))
def test_is_plain_joined_to_a_folder_stays_below_it(noise: str, parts: list[str]) -> None:
    """The law behind the list: whatever is taken lies in the folder."""
    name = "/".join([*parts, noise])
    inside = Path(os.path.normpath(Path("/some/folder") / name)) if is_plain(name) else Path("/some/folder/a")
    assert inside.parent.is_relative_to("/some/folder")
    assert inside != Path("/some/folder")


def test_read_at_most_file_of_the_limit_is_whole_and_one_more_byte_is_refused(tmp_path: Path) -> None:
    """The size is asked before anything is read."""
    (tmp_path / "a").write_bytes(b"12345")
    assert read_at_most(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="it holds 5 bytes, at most 4 are read"):
        read_at_most(tmp_path / "a", 4)


def test_read_at_most_pipe_or_device_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe without a writer would be waited for until the end of days; a device has no end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "zeros"):
        with pytest.raises(OSError, match="it is a pipe or a device, not a file"):
            read_at_most(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        read_at_most(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_at_most(tmp_path / "missing")


def test_read_at_most_folder_is_not_left_open(tmp_path: Path) -> None:
    """Whoever looks at many would run out of descriptors; other threads of the tests may open a few meanwhile."""
    before = len([*Path("/dev/fd").iterdir()])
    for _ in range(100):
        with pytest.raises(IsADirectoryError):
            read_at_most(tmp_path)
    assert len([*Path("/dev/fd").iterdir()]) < before + 100


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "Expecting"),
        (b"\xff", "decode"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * (DEEPEST_JSON + 2) + "]" * (DEEPEST_JSON + 2), "nested deeper than 50 levels"),
        ("9" * 5000, "Exceeds the limit"),
    ],
    ids=["cut", "no text", "far too deep", "too deep", "million digits"],
)
def test_parsed_json_what_is_none_is_a_value_error(text: str | bytes, complaint: str) -> None:
    """One kind of error for whatever is wrong, so that no caller forgets one."""
    with pytest.raises(ValueError, match=complaint):
        parsed_json(text)


def test_parsed_json_at_the_limit_is_taken() -> None:
    """As deep as is said."""
    text = "[" * DEEPEST_JSON + "]" * DEEPEST_JSON
    assert json.dumps(parsed_json(text)) == text


def test_json_table_of_anything_else_is_refused() -> None:
    """A list is JSON, and no table."""
    assert json_table('{"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="it holds no JSON object"):
        json_table("[1]")


@pytest.mark.parametrize("name", [".report.html.partial", "report.html"])
def test_write_file_link_laid_beside_it_does_not_lead_outside(tmp_path: Path, name: str) -> None:
    """A folder from elsewhere may hold links at the names that are written next: nothing behind them is touched."""
    (tmp_path / "mine.txt").write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(tmp_path / "mine.txt")
    refused = ""
    try:
        atomic.write_file(run / "report.html", "a report")
    except StorageError as error:
        refused = str(error)
    assert (tmp_path / "mine.txt").read_text() == "precious"
    assert ("a link of this name is in the way" in refused) == name.startswith(".")


def test_append_lines_link_in_its_place_is_refused(tmp_path: Path) -> None:
    """Nor is a file elsewhere cut to its last line, and appended to."""
    (tmp_path / "mine.txt").write_text("precious")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(StorageError, match="a link of this name is in the way"):
        atomic.append_lines(tmp_path / "metrics.jsonl", ["a line"])
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_read_lines_of_a_pipe_is_refused_in_words(tmp_path: Path) -> None:
    """A viewer that waits for ever is no better than one that crashes."""
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(StorageError, match=r"metrics\.jsonl cannot be read: it is a pipe or a device"):
        atomic.read_lines(tmp_path / "metrics.jsonl")
