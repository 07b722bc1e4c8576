"""Above the limit nothing is prepared and nothing trained; the message says why, where, and what to do."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.core.run_folder import data_folder
from ml_playground.core.values import Fates
from ml_playground.data_pipeline.bookkeeping import check_skipped
from ml_playground.data_pipeline.loss_limit import check_epoch, check_loss, percent
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.settings import PythonStdlib
from ml_playground.data_pipeline.sources.python_stdlib import StandardLibrary
from ml_playground.data_pipeline.survey import survey
from ml_playground.data_pipeline.transforms.split import pieces
from ml_playground.training.building import open_data
from tests.fakes.prepared_text import prepared_text, text_settings, write_texts
from tests.fakes.tiny_job import tiny_job

TEXT = "ab\n" * 30 + "ab\nabüzzzz"
"""The last tenth has five characters that the first nine do not: six bytes of 101."""


def test_prepare_that_loses_too_much_is_refused_before_anything_is_there(tmp_path: Path) -> None:
    """How much, of what, where most, two ways out; one document cannot be dealt out evenly."""
    with pytest.raises(DataError) as caught:
        prepared_text(tmp_path, TEXT, max_loss_fraction=0.01)
    assert str(caught.value) == (
        "5.9 % of the text would be lost, more than prepare.max_loss_fraction = 0.01 allows: 6 bytes in characters that the "
        "tokenizer does not know. Most is lost in text.txt, line 32, character 95: 'üzzzz' (6 bytes of val). To keep it: take a "
        "tokenizer that knows every character (--set 'prepare.tokenizer={kind=\"byte_bpe\"}'). To do without it: "
        "--set prepare.max_loss_fraction=0.06."
    )
    assert [path for path in data_folder().iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("documents", "split_by", "advised"),
    [(20, "document", True), (20, "position", True), (19, "document", False), (60, "hash", False)],
)
def test_dealing_out_by_hash_is_advised_only_where_it_helps(
    tmp_path: Path, documents: int, split_by: str, advised: bool
) -> None:
    """Not where it is set already, nor for a handful of documents, of which a split may get none."""
    letters = (chr(0x4E00 + number) for number in range(documents))
    write_texts(tmp_path / "texts", {f"{number:02}.txt": f"ab{letter}\n" * 9 for number, letter in enumerate(letters)})
    settings = text_settings(tmp_path / "texts", split_by=split_by, max_loss_fraction=0.01)
    with pytest.raises(DataError, match=r"of the text would be lost") as caught:
        prepare(settings, Deps())
    assert ("prepare.split_by=hash" in str(caught.value)) == advised


def test_prepare_with_copies_dropped_is_refused_as_without_the_copies(tmp_path: Path) -> None:
    """What is left out cannot make a loss look small: the data set is that of the source without it."""
    write_texts(tmp_path / "texts", {**{f"{copy}.txt": "ab\n" * 300 for copy in range(20)}, "z.txt": "abü" * 10})
    settings = text_settings(tmp_path / "texts", split_by="document", duplicates="drop", max_loss_fraction=0.01)
    with pytest.raises(DataError, match=r"2\.1 % of the text would be lost.* 20 bytes in characters"):
        prepare(settings, Deps())


def test_prepare_with_the_limit_of_the_message_goes_through(tmp_path: Path) -> None:
    """What it says works; so does the other way."""
    assert prepared_text(tmp_path, TEXT, max_loss_fraction=0.06).manifest.ledger.lost_bytes() == {"unknown": 6}
    assert prepared_text(tmp_path, TEXT, tokenizer={"kind": "byte_bpe", "vocab_size": 300}, max_loss_fraction=0.01)


def test_prepare_again_under_a_stricter_limit_is_refused(tmp_path: Path) -> None:
    """The limit is no part of the data set, so that it is found again; it holds all the same."""
    loose = prepared_text(tmp_path, TEXT, max_loss_fraction=0.06)
    strict = text_settings(tmp_path / "text.txt", max_loss_fraction=0.05)
    assert prepared_folder(strict) == loose.folder
    with pytest.raises(
        DataError, match=r"5\.9 % of the text would be lost, more than prepare.max_loss_fraction = 0.05"
    ):
        prepare(strict, Deps())


def test_training_on_data_that_lost_more_than_its_job_allows_is_refused(tmp_path: Path) -> None:
    """A run may begin long after preparing, and with another limit."""
    (tmp_path / "text.txt").write_text(TEXT * 3 + "é" * 20)
    loose, strict = (tiny_job(tmp_path, prepare={"max_loss_fraction": limit}) for limit in (0.5, 0.001))
    prepare(loose.prepare, Deps())
    assert open_data(loose).fingerprint
    with pytest.raises(DataError, match=r"more than prepare\.max_loss_fraction = 0\.001 allows"):
        open_data(strict)


def test_source_of_which_too_much_is_skipped_is_refused_at_once(tmp_path: Path) -> None:
    """Before the vocabulary is learnt; the file and its first bad byte are named."""
    write_texts(tmp_path, {"a.py": "a" * 90, "e.py": ""})
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9 au lait")
    library = StandardLibrary(PythonStdlib(), tmp_path)
    counted = survey(pieces(library.documents()), lambda: pieces(library.documents()))
    check_skipped(library.provenance(), counted, 0.14)
    with pytest.raises(
        DataError,
        match=r"^13 % .*: 14 bytes in files that are not UTF-8\. Most is lost in latin\.py, byte 5 \(14 bytes\)\. "
        r"To keep it: write these files as UTF-8, or leave them out of the source\. .*max_loss_fraction=0\.14\.$",
    ):
        check_skipped(library.provenance(), counted, 0.13)


def test_limit_is_the_most_that_may_be_lost() -> None:
    """Exactly so much is allowed; without rows none is named."""
    check_loss({"unknown": 5}, 500, 0.01, ())
    check_loss({}, 0, 0.0, ())
    with pytest.raises(DataError, match=r"does not know\. To keep it"):
        check_loss({"unknown": 6}, 500, 0.01, ())


@given(st.integers(1, 10**6), st.integers(0, 10**9))
def test_limit_that_the_message_names_is_enough_and_not_much_more(lost: int, kept: int) -> None:
    """Whoever types it gets through, and allows a tenth more at most."""
    found = lost + kept
    with pytest.raises(DataError) as caught:
        check_loss({"unknown": lost}, found, 0.0, ())
    limit = float(str(caught.value).removesuffix(".").rpartition("=")[2])
    check_loss({"unknown": lost}, found, limit, ())
    assert limit <= min(1.0, 1.1001 * lost / found)


@pytest.mark.parametrize(("can_split", "way"), [(True, ", or set data.truncation = 'split'"), (False, "")])
def test_epoch_that_leaves_out_too_much_names_split_and_setting(can_split: bool, way: str) -> None:
    """Rows that are too long are text that is lost as well; only a way that the kind of data knows is advised."""
    whole = Fates(tokens=1000, trained=990, masked=10, batches=1)
    cut = Fates(tokens=1000, trained=980, truncated=15, dropped=5, batches=1)
    check_epoch({"train": whole, "val": cut}, 0.02, can_split=can_split)
    with pytest.raises(DataError) as caught:
        check_epoch({"train": whole, "val": cut}, 0.019, can_split=can_split)
    assert str(caught.value) == (
        "An epoch leaves out 2 % of 'val', more than prepare.max_loss_fraction = 0.019 allows: 15 tokens are cut off rows that "
        f"are too long, 5 are in rows that are left out. To keep them: raise data.sequence_tokens{way}. To do without them: "
        "--set prepare.max_loss_fraction=0.02."
    )


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.0, "0 %"), (0.00018, "0.018 %"), (0.0345, "3.5 %"), (0.5, "50 %"), (1.0, "100 %")]
)
def test_percent_has_two_figures(fraction: float, text: str) -> None:
    """Enough to judge by."""
    assert re.fullmatch(re.escape(text), percent(fraction))
