"""Files that a tokenizer's settings name decide about a data set as its source does."""

from pathlib import Path

import pytest

from ml_playground.configuration.models import PrepareSettings
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.preparer import changed_source, prepare
from ml_playground.data_pipeline.tokenizer_files import changed_files, tokenizer_files
from tests.fakes.prepared_text import text_settings, write_texts
from tests.fakes.tokenizer_files import SAMPLE, write_folder, write_ranks


@pytest.fixture
def settings(tmp_path: Path, home: Path) -> PrepareSettings:
    """A text, and ranks in a file beside it."""
    write_texts(tmp_path, {"text.txt": SAMPLE})
    ranks = write_ranks(tmp_path / "ranks")
    return text_settings(
        tmp_path / "text.txt", tokenizer={"kind": "tiktoken_bpe", "ranks": str(ranks)}, split_by="position"
    )


def test_prepare_records_the_files_and_reuses_the_data_set(settings: PrepareSettings) -> None:
    """By name, size and hash."""
    first = prepare(settings, Deps())
    (file,) = first.manifest.tokenizer_files
    assert (file.name, file.size_bytes) == ("ranks", settings.tokenizer.ranks.stat().st_size)
    assert prepare(settings, Deps()).reused
    assert changed_source(settings, Deps()) is None


def test_prepare_again_with_changed_files_is_refused_and_fresh_takes_them(
    settings: PrepareSettings, tmp_path: Path
) -> None:
    """Other ranks, other ids: neither is taken for the other in silence."""
    first = prepare(settings, Deps())
    write_ranks(tmp_path / "ranks", vocab_size=350)
    with pytest.raises(
        DataError, match=r"The tokenizer's files changed since \S+ was prepared with them: ranks changed"
    ):
        prepare(settings, Deps())
    assert changed_source(settings, Deps()) == "of the tokenizer's files ranks changed"
    assert prepare(settings, Deps(), fresh=True).fingerprint != first.fingerprint


def test_prepared_data_need_the_files_no_more_to_be_opened(settings: PrepareSettings, tmp_path: Path) -> None:
    """The data set is whole in itself; only preparing asks for what it was made of."""
    prepare(settings, Deps())
    (tmp_path / "ranks").unlink()
    assert changed_source(settings, Deps()) is None
    with pytest.raises(DataError, match=r"ranks = \S+ does not exist"):
        prepare(settings, Deps())


def test_folder_of_a_tokenizer_that_is_gone_has_not_changed(tmp_path: Path, home: Path) -> None:
    """Training says nothing of it, for preparing anew, which it would advise, could not be done."""
    write_texts(tmp_path, {"text.txt": SAMPLE})
    folder = write_folder(tmp_path / "made")
    settings = text_settings(
        tmp_path / "text.txt", tokenizer={"kind": "hugging_face", "path": str(folder)}, split_by="position"
    )
    prepare(settings, Deps())
    folder.rename(tmp_path / "away")
    assert changed_source(settings, Deps()) is None
    with pytest.raises(DataError, match=r"prepare\.tokenizer\.path = \S+made is no folder"):
        prepare(settings, Deps())


def test_files_that_cannot_be_read_name_the_key(tmp_path: Path) -> None:
    """A folder where a file should be."""
    tokenizer = text_settings(tmp_path, tokenizer={"kind": "tiktoken_bpe", "ranks": str(tmp_path)}).tokenizer
    with pytest.raises(
        DataError, match=r"of which the tokenizer is made, cannot be read: Is a directory; .*prepare\.tokenizer"
    ):
        tokenizer_files(tokenizer)


def test_kinds_that_learn_from_the_text_alone_have_no_files(tmp_path: Path) -> None:
    """Nor has a source of images, which has no tokenizer."""
    assert tokenizer_files(text_settings(tmp_path, tokenizer="char").tokenizer) == ()
    assert tokenizer_files(text_settings(tmp_path, tokenizer="sentencepiece_model").tokenizer) == ()
    assert tokenizer_files(None) == ()
    assert changed_files((), ()) is None


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ({"kind": "hugging_face", "path": "{folder}/nowhere"}, "nowhere is no folder"),
        ({"kind": "hugging_face", "path": "{folder}"}, "holds no tokenizer"),
        ({"kind": "tiktoken_bpe", "ranks": "{folder}/nowhere"}, "nowhere does not exist"),
        ({"kind": "tiktoken_bpe", "ranks": "{folder}/text.txt"}, "text.txt is no file of ranks: line 1"),
        ({"kind": "sentencepiece_model", "model": "{folder}/text.txt"}, "text.txt is no SentencePiece model"),
    ],
)
def test_files_that_are_no_tokenizer_are_refused_before_the_text_is_read(
    tokenizer: dict[str, str], message: str, tmp_path: Path, home: Path
) -> None:
    """A large text would be read for nothing."""
    write_texts(tmp_path, {"text.txt": SAMPLE})
    made = {key: value.format(folder=tmp_path) for key, value in tokenizer.items()}
    told: list[str] = []
    with pytest.raises(DataError, match=message):
        prepare(
            text_settings(tmp_path / "text.txt", tokenizer=made),
            Deps(),
            report=lambda progress: told.append(progress.phase),
        )
    assert not told
