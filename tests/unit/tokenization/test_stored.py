"""`tokenizer.json` that is missing, damaged, or of another version."""

from pathlib import Path

import pytest

from ml_playground.core.error_handling import DataError
from ml_playground.tokenization.loading import load_tokenizer


def test_load_tokenizer_missing_file_names_the_folder(tmp_path: Path) -> None:
    """The user learns which folder lacks what."""
    with pytest.raises(DataError, match=rf"{tmp_path} holds no tokenizer: tokenizer.json is missing; prepare"):
        load_tokenizer(tmp_path)


def test_load_tokenizer_folder_in_its_place_says_why(tmp_path: Path) -> None:
    """Any failure to read is told with its reason."""
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(DataError, match="tokenizer.json cannot be read: Is a directory"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"tokenizer.json is damaged: Expecting property name"),
        ("[" * 100_000, r"tokenizer.json is damaged: it is nested too deeply"),
        ('{"kind": ' * 60 + "1" + "}" * 60, r"tokenizer.json is damaged: it is nested deeper than 50 levels"),
        ('{"kind": ' + "9" * 5000 + "}", r"tokenizer.json is damaged: Exceeds the limit"),
        ("[1]", r"is damaged: it holds no JSON object"),
        ('{"kind": "char", "schema_version": 2}', r"has schema_version 2, but this version reads 1"),
        ('{"kind": "chr", "schema_version": 1}', r"unknown kind 'chr'; did you mean 'char'\? \(known: byte, byte_bpe"),
        ('{"kind": 3, "schema_version": 1}', r"unknown kind 3 \(known"),
        ('{"kind": "char", "schema_version": 1}', r"'characters' is not a list of texts"),
        ('{"kind": "char", "schema_version": 1, "characters": ["a", 1]}', r"'characters' is not a list of texts"),
        ('{"kind": "char", "schema_version": 1, "characters": ["a", "a"]}', r"'characters' names a text twice"),
        ('{"kind": "char", "schema_version": 1, "characters": ["ab"]}', r"not a list of single characters"),
        ('{"kind": "char", "schema_version": 1, "characters": []}', r"not a list of single characters"),
    ],
)
def test_load_tokenizer_damaged_file_says_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    """No damage is read as a tokenizer."""
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)


def test_load_tokenizer_not_utf8_says_it_is_damaged(tmp_path: Path) -> None:
    """Bytes that are no text are damage too."""
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="is damaged"):
        load_tokenizer(tmp_path)
