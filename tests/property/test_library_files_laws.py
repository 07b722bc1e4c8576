"""A tokenizer of ours and its copy in files for AutoTokenizer: equal ids, and equal text of equal ids, for any text."""

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.tokenization.byte import ByteTokenizer
from ml_playground.tokenization.byte_bpe import ByteBpeTokenizer
from ml_playground.tokenization.char import CharTokenizer
from ml_playground.tokenization.library_files import library_files
from ml_playground.tokenization.settings import Byte, ByteBpe, Char, Word
from ml_playground.tokenization.word import WordTokenizer

# Words with the blank before them alone, without it alone, and with both; blanks that are words; signs that patterns know.
TRAINING = "the cat (the) sat\n\n  sat, it's 99 a+b a+b .* [x] (.*) \\d <unk> é 你好 you're " * 3 + "<|endoftext|> "
PIECES = [
    "the",
    " the",
    " ",
    "  ",
    "\n",
    "cat",
    " cat",
    "(",
    "the)",
    "it's",
    " 9",
    "99",
    "a+b",
    ".*",
    "[x]",
    "\\d",
    "\\",
    "<unk>",
]
PIECES += ["<|endoftext|>", "é", "你", "\ufffd", "z", " z", "\u3000", "\x00", "\ue000", "x" * 40, "\u0301", "-", "ï¿½"]

TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=20).map("".join),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40),
)


@functools.cache
def pair(kind: str) -> tuple[Tokenizer, Any]:
    """A tokenizer learnt from TRAINING, and what AutoTokenizer makes of its files."""
    made: Tokenizer = {
        "byte": lambda: ByteTokenizer.train([TRAINING], Byte()),
        "char": lambda: CharTokenizer.train([TRAINING], Char()),
        "char, the replacement known": lambda: CharTokenizer.train([TRAINING + "\ufffd"], Char()),
        "word": lambda: WordTokenizer.train([TRAINING], Word(min_count=1)),
        "word, without a blank of its own": lambda: WordTokenizer(["the", " cat", "\ufffd"]),
        "byte_bpe": lambda: ByteBpeTokenizer.train([TRAINING], ByteBpe(vocab_size=300)),
    }[kind]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made.save(folder)
        for file, content in library_files(folder).items():
            (folder / file).write_bytes(content)
        return made, cast(Any, AutoTokenizer).from_pretrained(folder, local_files_only=True)


KINDS: Sequence[str] = (
    *("byte", "char", "char, the replacement known"),
    *("word", "word, without a blank of its own", "byte_bpe"),
)


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXTS)
def test_library_files_any_text_has_equal_ids_and_decodes_equally(kind: str, text: str) -> None:
    """What a model reads is the same, whoever encodes; marks in a text are text."""
    ours, theirs = pair(kind)
    ids = ours.encode(text)
    assert theirs(text).input_ids == ids
    assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_library_files_same_vocabulary_and_end_of_text(kind: str) -> None:
    """A model's logits have a name each, and the same one ends a text."""
    ours, theirs = pair(kind)
    assert len(theirs) == ours.vocab_size
    assert theirs.eos_token_id == ours.specials.eos
