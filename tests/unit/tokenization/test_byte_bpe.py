"""The byte-level BPE's own rules."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_playground.core.error_handling import DataError
from ml_playground.tokenization.byte_bpe import END_OF_TEXT, ByteBpeTokenizer
from ml_playground.tokenization.byte_letters import BYTE_OF_LETTER
from ml_playground.tokenization.known_words import LIMIT_BYTES, LIMIT_WORDS, KnownWords
from ml_playground.tokenization.settings import ByteBpe

TEXT = "the cat sat on the mat, the cat's hat; they'll see 'tis 12 of 123\n\n    return the_cat\n" * 20


def trained(**settings: Any) -> ByteBpeTokenizer:
    """A tokenizer of the cat's text."""
    return ByteBpeTokenizer.train([TEXT], ByteBpe(**settings))


def saved(tokenizer: ByteBpeTokenizer, folder: Path, **changes: Any) -> Path:
    """Its folder, with some keys of the file set to something else."""
    tokenizer.save(folder)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_train_small_vocabulary_has_exactly_the_size_asked_for() -> None:
    """The bytes and the end of text count."""
    assert trained(vocab_size=270).vocab_size == 270


def test_train_short_text_ends_with_a_smaller_vocabulary() -> None:
    """The size found is the size used."""
    tokenizer = ByteBpeTokenizer.train(["abab"], ByteBpe(vocab_size=1000))
    assert 257 < tokenizer.vocab_size < 270


def test_train_high_min_frequency_merges_nothing() -> None:
    """The setting has an effect."""
    assert trained(min_frequency=10_000).vocab_size == 257


def test_encode_frequent_word_is_one_id() -> None:
    """Merges are applied."""
    assert len(trained().encode(" the")) == 1


def test_encode_text_of_the_special_is_plain_text() -> None:
    """What a text spells never ends a document."""
    tokenizer = trained()
    ids = tokenizer.encode(f"a{END_OF_TEXT}b")
    assert tokenizer.specials.eos not in ids
    assert tokenizer.decode(ids) == f"a{END_OF_TEXT}b"


def test_decode_leaves_out_the_end_of_text() -> None:
    """It is a mark, not a text."""
    tokenizer = trained()
    assert tokenizer.decode([*tokenizer.encode("cat"), tokenizer.specials.eos or 0]) == "cat"


def test_byte_letters_are_those_of_the_library() -> None:
    """One printable letter for each byte."""
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(BYTE_OF_LETTER) == set(ByteLevel.alphabet())
    assert sorted(BYTE_OF_LETTER.values()) == list(range(256))


def test_train_in_other_processes_gives_equal_fingerprints() -> None:
    """Neither threads nor hash seeds decide about merges."""
    code = (
        "from ml_playground.tokenization.byte_bpe import ByteBpeTokenizer as T;"
        "from ml_playground.tokenization.settings import ByteBpe;"
        f"print(T.train([{TEXT!r}], ByteBpe(vocab_size=400)).fingerprint)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert {run.stdout.strip() for run in runs} == {trained(vocab_size=400).fingerprint}


def test_encode_arrays_full_cache_starts_over_with_equal_ids() -> None:
    """The cache bounds memory, never changes ids."""
    tokenizer, crowded = trained(), trained()
    crowded.encode(" ".join(map(str, range(LIMIT_WORDS + 10))))
    assert len(crowded._encoder.known) > LIMIT_WORDS
    assert crowded.encode(TEXT) == tokenizer.encode(TEXT)
    assert len(crowded._encoder.known) == len(tokenizer._encoder.known)


def test_known_words_of_long_lines_are_full_before_they_are_many() -> None:
    """In a script without blanks each line is a word; kept for good, they would be the whole text."""
    known = KnownWords(np.uint16)
    for number in range(3):
        known.numbers(["\u4f60" * (LIMIT_BYTES // 8) + str(number)])
        assert len(known.without_ids()) == 1
        known.add_ids(np.array([number], dtype=np.uint16), np.array([1]))
    assert len(known) == 3
    assert known.is_full


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": ["a"]}, "'vocabulary' lacks some bytes or the end of text"),
        ({"vocabulary": [END_OF_TEXT, *BYTE_OF_LETTER, "\u4f60"]}, "letters that stand for no byte"),
        ({"vocabulary": [END_OF_TEXT, *BYTE_OF_LETTER, ""]}, "a token without any"),
        ({"merges": None}, "'merges' is not a list"),
        ({"merges": [["a"]]}, r"\['a'\] among 'merges' is not a pair of texts"),
        ({"merges": [["q", "q"]]}, "'merges' names what 'vocabulary' does not"),
    ],
)
def test_load_damaged_content_says_what_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """No damage is read as a tokenizer."""
    with pytest.raises(DataError, match=f"tokenizer.json is damaged: .*{message}"):
        ByteBpeTokenizer.load(saved(trained(vocab_size=300), tmp_path, **changes))


def test_load_merges_that_make_the_end_of_text_are_refused(tmp_path: Path) -> None:
    """A text that holds the letters of the mark would else end its document."""
    head, tail = END_OF_TEXT[:-1], END_OF_TEXT[-1]
    parts = [END_OF_TEXT[:size] for size in range(2, len(END_OF_TEXT))]
    merges = [*([part[:-1], part[-1]] for part in parts), [head, tail]]
    vocabulary = [END_OF_TEXT, *BYTE_OF_LETTER, *parts]
    with pytest.raises(DataError, match="'merges' makes the end of text out of text"):
        ByteBpeTokenizer.load(saved(trained(vocab_size=300), tmp_path, vocabulary=vocabulary, merges=merges))
