"""Token files as they lie on disk."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from ml_playground.data_pipeline.storage.token_file import TokenType, TokenWriter, read_index, read_tokens, token_type


def written(folder: Path, name: TokenType, documents: list[list[int]]) -> TokenWriter:
    """A split of some documents."""
    writer = TokenWriter(folder, "train", name)
    for ids in documents:
        writer.start_document()
        writer.add(np.array(ids, dtype=np.uint32))
    writer.close()
    return writer


@pytest.mark.parametrize(("vocab_size", "expected"), [(2, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_token_type_is_the_smallest_that_holds_every_id(vocab_size: int, expected: str) -> None:
    """The largest id is one less than the vocabulary's size."""
    assert token_type(vocab_size) == expected


def test_tokens_uint16_lie_little_endian_without_header(tmp_path: Path) -> None:
    """Readable by anything."""
    written(tmp_path, "uint16", [[1, 258], [65_535]])
    assert (tmp_path / "train.tokens").read_bytes() == bytes([1, 0, 2, 1, 255, 255])


def test_tokens_uint32_lie_little_endian_without_header(tmp_path: Path) -> None:
    """For vocabularies beyond 65,536."""
    written(tmp_path, "uint32", [[65_536]])
    assert (tmp_path / "train.tokens").read_bytes() == bytes([0, 0, 1, 0])


@pytest.mark.parametrize("name", ["uint16", "uint32"])
def test_read_gives_what_was_written(tmp_path: Path, name: TokenType) -> None:
    """Ids, and where each document starts."""
    written(tmp_path, name, [[1, 2, 3], [], [4]])
    assert read_tokens(tmp_path, "train", name).tolist() == [1, 2, 3, 4]
    assert read_index(tmp_path, "train").tolist() == [0, 3, 3]


def test_read_empty_split_gives_an_empty_array(tmp_path: Path) -> None:
    """An empty file cannot be mapped."""
    written(tmp_path, "uint16", [])
    assert read_tokens(tmp_path, "train", "uint16").shape == (0,)


def test_accounts_are_those_of_the_files(tmp_path: Path) -> None:
    """Hashed while writing; no second reading."""
    accounts = written(tmp_path, "uint16", [[1, 2], [3]]).accounts()
    assert set(accounts) == {"train.tokens", "train.index"}
    for name, account in accounts.items():
        content = (tmp_path / name).read_bytes()
        assert account.size_bytes == len(content)
        assert account.sha256 == hashlib.sha256(content).hexdigest()
