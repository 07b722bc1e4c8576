"""The char tokenizer's own rules."""

from pathlib import Path

import pytest

from ml_playground.tokenization.char import CharTokenizer
from ml_playground.tokenization.settings import Char


def test_train_orders_characters_by_code_point_and_ends_with_unknown() -> None:
    """The same text gives the same ids on every machine."""
    tokenizer = CharTokenizer.train(["ba", "éa\n"], Char())
    assert tokenizer.encode("\nabé") == [0, 1, 2, 3]
    assert tokenizer.specials.unknown == 4
    assert tokenizer.vocab_size == 5


@pytest.mark.parametrize("stranger", ["z", "\x00", "\u00ea", "\U0010ffff", "A"])
def test_encode_stranger_gives_unknown_and_decodes_as_replacement(stranger: str) -> None:
    """Below, between and beyond the known code points alike."""
    tokenizer = CharTokenizer.train(["ab\u00e9"], Char())
    assert tokenizer.encode(stranger) == [tokenizer.specials.unknown]
    assert tokenizer.decode(tokenizer.encode(f"a{stranger}b")) == "a\ufffdb"


def test_load_keeps_neighbouring_surrogates_apart(tmp_path: Path) -> None:
    """Two halves that stand beside each other in the vocabulary are not one character."""
    tokenizer = CharTokenizer.train(["\udbff", "\udc00"], Char())
    tokenizer.save(tmp_path)
    assert CharTokenizer.load(tmp_path).fingerprint == tokenizer.fingerprint


def test_encode_wide_vocabulary_uses_four_bytes() -> None:
    """More characters than two bytes can number."""
    tokenizer = CharTokenizer.train([chr(code) for code in range(0x10000, 0x21000)], Char())
    assert tokenizer.encode_arrays(["\U00010001"])[0].dtype.itemsize == 4
    assert tokenizer.decode(tokenizer.encode("\U00020fff")) == "\U00020fff"
