"""A token file in use: whatever is done to it, no id of another text is handed out."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.sampling.token_windows import TokenWindowData, build
from ml_playground.data_pipeline.settings import TokenWindows
from ml_playground.data_pipeline.storage.open_array import OpenArray
from tests.fakes.prepared_text import prepared_text, text_settings

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on. " * 20


def opened(folder: Path) -> tuple[TokenWindowData, Path]:
    """Data in use, and the file of their training split."""
    prepared = prepared_text(folder, TEXT)
    return build(
        TokenWindows(sequence_tokens=16, micro_batch_rows=4), prepared.folder, 1
    ), prepared.folder / "train.tokens"


def written_into(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(40)
        stream.write(b"\x07")


def cut_short(path: Path) -> None:
    os.truncate(path, 8)


def lengthened(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"\x00\x00")


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "written into": (written_into, "its content is another one"),
    "cut short": (cut_short, r"it had \d+ bytes and has 8"),
    "lengthened": (lengthened, r"it had \d+ bytes and has \d+"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_file_changed_while_in_use_is_refused_before_a_batch_is_handed_out(name: str, tmp_path: Path) -> None:
    """The file is mapped: the change is in the next batch already, and a part that is gone would end the process."""
    change, said = CHANGES[name]
    data, path = opened(tmp_path)
    data.train.batch_at(0)
    change(path)
    with pytest.raises(
        DataError, match=rf"train\.tokens was written into while it was trained on: {said}.*last checkpoint"
    ):
        data.train.batch_at(1)
    val = path.with_name("val.tokens")
    change(val)
    with pytest.raises(DataError, match=r"val\.tokens was written into"):
        list(data.split("val"))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(len(path.read_bytes())))
    other.replace(path)


def linked(path: Path) -> None:
    path.with_name(f"{path.name}.copy").hardlink_to(path)


def touched(path: Path) -> None:
    path.touch()


def locked(path: Path) -> None:
    path.chmod(0o400)


@pytest.mark.parametrize("change", [replaced, Path.unlink, linked, touched, locked])
def test_file_whose_content_stays_goes_on_with_the_same_ids(change: Callable[[Path], None], tmp_path: Path) -> None:
    """What was opened stays what it was: another file under its name, a backup by hard links, other rights are no matter."""
    data, path = opened(tmp_path)
    before = [data.train.batch_at(number).ids for number in range(3)], [batch.ids for batch in data.split("val")]
    change(path)
    change(path.with_name("val.tokens"))
    after = [data.train.batch_at(number).ids for number in range(3)], [batch.ids for batch in data.split("val")]
    assert all(map(torch.equal, before[0] + before[1], after[0] + after[1]))


def test_data_prepared_anew_while_in_use_stay_those_that_were_opened(tmp_path: Path) -> None:
    """Evaluations are of the former text, and checkpoints carry the former tokenizer."""
    data, path = opened(tmp_path)
    tokenizer = (data.attachments["tokenizer"] / "tokenizer.json").read_text()
    validation = [batch.ids for batch in data.split("val")]
    (tmp_path / "text.txt").write_text("another text, of other letters: XYZ. " * 40)
    prepare(text_settings(tmp_path / "text.txt"), Deps(), fresh=True)
    assert (path.parent / "tokenizer" / "tokenizer.json").read_text() != tokenizer
    assert (data.attachments["tokenizer"] / "tokenizer.json").read_text() == tokenizer
    assert all(map(torch.equal, validation, [batch.ids for batch in data.split("val")]))


def test_tokenizer_that_was_removed_while_in_use_is_said(tmp_path: Path) -> None:
    """A checkpoint without its tokenizer would be of no use."""
    data, path = opened(tmp_path)
    path.with_name("tokenizer").rename(tmp_path / "elsewhere")
    with pytest.raises(
        DataError, match=r"tokenizer was replaced, edited or removed while the run trains.*bring the folder back"
    ):
        data.attachments["tokenizer"]
    path.with_name("tokenizer").mkdir()
    with pytest.raises(DataError, match="replaced, edited or removed"):
        data.attachments["tokenizer"]


def edited(folder: Path) -> None:
    """Into the very file, as long as it was."""
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("b", "d"))


def rewritten(folder: Path) -> None:
    """Under the same names, in the same folder."""
    path = folder / "tokenizer.json"
    content = path.read_text().replace("b", "d")
    path.unlink()
    path.write_text(content)


def joined(folder: Path) -> None:
    """By a file that nobody has prepared."""
    (folder / "more.json").write_text("{}")


def shortened(folder: Path) -> None:
    """By all that it holds."""
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize("change", [edited, rewritten, joined, shortened])
@pytest.mark.parametrize("looked", [False, True], ids=["at once", "after a checkpoint"])
def test_tokenizer_that_is_another_one_while_in_use_is_said(
    change: Callable[[Path], None], looked: bool, tmp_path: Path
) -> None:
    """Checkpoints would carry it, and texts come out wrong. The number of its folder stays what it was in all of these."""
    data, path = opened(tmp_path)
    folder = path.with_name("tokenizer")
    inode = folder.stat().st_ino
    if looked:
        assert data.attachments["tokenizer"] == folder
    change(folder)
    assert folder.stat().st_ino == inode
    with pytest.raises(DataError, match="replaced, edited or removed"):
        data.attachments["tokenizer"]


def test_tokenizer_that_was_taken_away_and_brought_back_is_the_same(tmp_path: Path) -> None:
    """By its content, not by the number of its folder."""
    data, path = opened(tmp_path)
    folder = path.with_name("tokenizer")
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder)
    assert data.attachments["tokenizer"] == folder


def test_file_written_between_its_comparison_and_its_opening_is_refused(tmp_path: Path) -> None:
    """What was compared with its hash and what is trained on are one and the same."""
    _, path = opened(tmp_path)
    before = path.stat()
    written_into(path)
    with pytest.raises(DataError, match="was written while it was being opened; type the same command again"):
        OpenArray(path, np.dtype("<u2"), "", before)


def test_file_without_ids_is_opened(tmp_path: Path) -> None:
    """An empty file cannot be mapped."""
    path = tmp_path / "test.tokens"
    path.touch()
    tokens = OpenArray(path, np.dtype("<u2"), "", None)
    assert tokens.numbers.dtype == np.uint16
    assert tokens.numbers.shape == (0,)
    tokens.check()
