"""`mlp prepare` where nothing can be written: what is there is found, and what is not there is refused."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml_playground.cli import main
from tests.fakes.prepared_text import write_texts

TEXT = "to be or not to be, that is the question\n" * 100


@pytest.fixture
def lock_up(home: Path) -> Iterator[Callable[[], None]]:
    """From its call on nothing can be written at home; root, who may write everywhere, has it mounted read-only."""
    home.mkdir()

    def lock() -> None:
        if os.geteuid():
            for parent, _, names in os.walk(home):
                Path(parent).chmod(0o555)
                # A lock that is there already is opened for writing, for which its folder is not asked.
                for name in names:
                    Path(parent, name).chmod(0o444)
            return
        done = subprocess.run(["mount", "--bind", home, home], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("this root may not mount")
        done = subprocess.run(["mount", "-o", "remount,bind,ro", home], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("this root may not mount")

    yield lock
    # Where mounts are shared, one that is bound over itself lies there twice.
    while not os.geteuid() and not subprocess.run(["umount", "-l", home], capture_output=True, check=False).returncode:
        pass
    for parent, _, _ in os.walk(home):
        Path(parent).chmod(0o755)


def words(source: str, *more: str) -> list[str]:
    """A command line that prepares a source."""
    settings = [f"prepare.source={source}", "prepare.tokenizer={kind='char'}", "prepare.split_by=position", *more]
    return ["prepare", "python_stdlib", *(word for setting in settings for word in ("--set", setting))]


@pytest.mark.parametrize("source", ["{{kind='text_file', path='{}'}}", "{{kind='url_text', url='file://{}'}}"])
def test_what_is_prepared_is_found_where_nothing_can_be_written(
    source: str, lock_up: Callable[[], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To look at it takes no right to write: neither a data set's lock nor that of a copy in the cache."""
    text = write_texts(tmp_path, {"a.txt": TEXT}) / "a.txt"
    assert main(words(source.format(text))) == 0
    lock_up()
    assert main(words(source.format(text))) == 0
    told = capsys.readouterr()
    assert "python_stdlib: already prepared, and its source is unchanged\n" in told.out
    assert "error" not in told.err


def test_a_changed_source_is_told_where_nothing_can_be_written(
    lock_up: Callable[[], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is found is compared as everywhere."""
    text = write_texts(tmp_path, {"a.txt": TEXT}) / "a.txt"
    line = words(f"{{kind='text_file', path='{text}'}}")
    assert main(line) == 0
    lock_up()
    text.write_text(f"{TEXT}more")
    assert main(line) == 2
    assert "was prepared from it: a.txt changed." in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("more", [["--fresh"], ["--set", "prepare.val_fraction=0.3"]])
def test_what_must_be_written_is_refused_where_nothing_can_be(
    more: list[str], lock_up: Callable[[], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for anew, or not there: the disk is what is in the way."""
    text = write_texts(tmp_path, {"a.txt": TEXT}) / "a.txt"
    line = words(f"{{kind='text_file', path='{text}'}}")
    assert main(line) == 0
    lock_up()
    assert main([*line, *more]) == 2
    told = capsys.readouterr().err
    assert "error: Could not write " in told
    assert "the file system is read-only" in told or "permission denied" in told
