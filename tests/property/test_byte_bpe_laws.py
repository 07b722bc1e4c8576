"""Laws of the byte-level BPE: what numpy counts, merges and encodes is what Hugging Face `tokenizers` does."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from ml_playground.data_pipeline.encoding import cut
from ml_playground.tokenization.ascii_words import split_words
from ml_playground.tokenization.byte_bpe import END_OF_TEXT, ByteBpeTokenizer
from ml_playground.tokenization.byte_letters import BYTE_OF_LETTER
from ml_playground.tokenization.settings import ByteBpe
from ml_playground.tokenization.word_counts import WordCounts
from ml_playground.tokenization.word_table import WordTable

# Blanks of all sorts, contractions, marks, combining characters, joined emoji, NUL, numbers that are no digits.
AWKWARD = "aZ'sdtlvemr09_.,!- \n\t\r\x0b\x0c\x1c\x1f\x85\xa0\u2028\u3000\u200b\u180e\0½²Ⅷé你\u0301\u200d\U0001f468\U0001f40e\ue000"
texts = st.one_of(
    st.text(alphabet=AWKWARD, max_size=80),
    st.text(max_size=60),
    st.text(alphabet="ab' s\n", max_size=80),
    st.text(alphabet=st.characters(codec="ascii"), max_size=80),
    st.lists(st.sampled_from([END_OF_TEXT, "they'll", "it's", " the", "\n\n  ", "x" * 40, "é", " "]), max_size=20).map(
        "".join
    ),
)
# Two and three letters: the same token arises from different pairs, and runs overlap.
crowded = st.one_of(
    st.text(alphabet="ab", max_size=200),
    st.text(alphabet="aab", max_size=200),
    st.text(alphabet="abc ", max_size=300),
    st.lists(st.sampled_from(["the", "hethe", "thth", "ethe", "aa", " "]), max_size=60).map("".join),
    texts,
)


def untrained(model: models.BPE) -> Tokenizer:
    """The library with the pre-tokenizer of GPT-2."""
    library = Tokenizer(model)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return library


def words_by_library(text: str) -> list[bytes]:
    """The library's words."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return [bytes(BYTE_OF_LETTER[letter] for letter in word) for word, _ in splitter.pre_tokenize_str(text)]


def learnt_by_library(text: str, settings: ByteBpe) -> tuple[list[str], list[list[str]]]:
    """The library's vocabulary and merges."""
    library = untrained(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=settings.min_frequency,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(BYTE_OF_LETTER),
        show_progress=False,
    )
    library.train_from_iterator([text], trainer)
    model: dict[str, Any] = json.loads(library.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__), [list(merge) for merge in model["merges"]]


def encoded_by_library(tokenizer: ByteBpeTokenizer, text: str) -> list[int]:
    """Ids by the library, from nothing but vocabulary and merges."""
    vocabulary = {token: index for index, token in enumerate(tokenizer.content["vocabulary"])}
    merges = [tuple(merge) for merge in tokenizer.content["merges"]]
    return untrained(models.BPE(vocab=vocabulary, merges=merges)).encode(text).ids


@given(
    st.text(alphabet=st.characters(codec="ascii"), max_size=120) | st.text(alphabet="ab'slvermdt01. \n\t", max_size=60)
)
def test_split_words_of_ascii_equals_the_library(text: str) -> None:
    """Three neighbours decide, contractions apart."""
    words = split_words([text])
    assert words.pick(np.arange(len(words.starts))) == words_by_library(text)


@given(texts)
def test_split_words_foreign_stretches_hold_all_foreign_bytes_and_end_where_words_do(text: str) -> None:
    """What is not decided here is handed over whole."""
    words = split_words([text])
    found = words.pick(np.arange(len(words.starts)))
    foreign = set(words.foreign.tolist())
    assert b"".join(found) == text.encode()
    assert all((not word.isascii()) == (place in foreign) for place, word in enumerate(found))
    assert [one for word in found for one in words_by_library(word.decode())] == words_by_library(text)


@given(st.lists(texts, max_size=8))
def test_split_words_of_several_texts_equals_each_alone(parts: list[str]) -> None:
    """No word reaches over the end of a text, wherever it ends."""
    together = split_words(parts)
    alone = [split_words([text]) for text in parts]
    assert together.pick(np.arange(len(together.starts))) == [
        word for words in alone for word in words.pick(np.arange(len(words.starts)))
    ]
    assert np.diff(together.ends, prepend=0).tolist()[: len(parts)] == [len(words.starts) for words in alone]


@given(st.lists(texts, max_size=8))
def test_word_counts_equal_the_library(parts: list[str]) -> None:
    """Whole words of whole texts, text after text."""
    counts = WordCounts()
    for text in parts:
        counts.add(text)
    assert counts.counts() == dict(Counter(word for text in parts for word in words_by_library(text)))


@given(st.lists(texts, min_size=1, max_size=8), st.integers(0, 8))
def test_word_counts_absorb_what_was_counted_elsewhere(parts: list[str], at: int) -> None:
    """Counting in two places is counting in one."""
    whole, here, there = WordCounts(), WordCounts(), WordCounts()
    for place, text in enumerate(parts):
        whole.add(text)
        (here if place < at else there).add(text)
    here.absorb(there.state())
    assert here.counts() == whole.counts()


@given(st.lists(st.lists(st.binary(min_size=1, max_size=3).map(lambda raw: raw.hex()), max_size=300), max_size=6))
def test_word_table_equal_words_have_equal_numbers(rounds: list[list[str]]) -> None:
    """Exact: what a number stands for is the word that was asked, also after the table has grown."""
    table = WordTable()
    for some in rounds:
        words = split_words(some)
        numbers = table.numbers(words).tolist()
        assert [table.words[number] for number in numbers] == words.pick(np.arange(len(words.starts)))
    assert len(set(table.words)) == len(table.words)


@given(crowded, st.integers(257, 330), st.integers(1, 4))
def test_train_equals_the_library(text: str, vocab_size: int, min_frequency: int) -> None:
    """The same vocabulary and merges in the same order, where tokens arise twice and runs overlap, too."""
    settings = ByteBpe(vocab_size=vocab_size, min_frequency=min_frequency)
    content = ByteBpeTokenizer.train([text + "a"], settings).content
    assert (content["vocabulary"], content["merges"]) == learnt_by_library(text + "a", settings)


@pytest.mark.parametrize("size", [1, 30, 1000])
@given(crowded)
def test_train_of_any_chunks_gives_the_same_vocabulary(size: int, text: str) -> None:
    """Where a text was cut cannot be seen."""
    settings = ByteBpe(vocab_size=300)
    chunks = list(cut([text + "a"], ByteBpeTokenizer.safe_cut, size))
    assert (
        ByteBpeTokenizer.train(chunks, settings).fingerprint
        == ByteBpeTokenizer.train([text + "a"], settings).fingerprint
    )


@given(crowded, st.lists(texts, max_size=6))
def test_encode_equals_the_library_whatever_was_encoded_before(training: str, parts: list[str]) -> None:
    """Ids do not depend on which words are known already."""
    tokenizer = ByteBpeTokenizer.train([training + "a"], ByteBpe(vocab_size=400))
    expected = [encoded_by_library(tokenizer, text) for text in parts]
    assert [tokenizer.encode(text) for text in parts[:2]] == expected[:2]
    for _ in range(2):
        assert [ids.tolist() for ids in tokenizer.encode_arrays(parts)] == expected


def test_encode_of_foreign_pieces_never_merges_across_words() -> None:
    """Between two safe cuts there may be several words; a merge that would fit over their border is not made."""
    tokenizer = ByteBpeTokenizer.train(["((( )))) 1212 abab "] * 9, ByteBpe(vocab_size=300))
    letters = ByteBpeTokenizer(
        [*tokenizer.content["vocabulary"], "a1", "1(", "\u00c3\u00a9a"],
        [*map(tuple, tokenizer.content["merges"]), ("a", "1"), ("1", "(")],
    )
    text = "\u00e9a1(a1( \u4f60a1(\u00e9 a1("
    assert letters.encode(text) == encoded_by_library(letters, text)
    assert letters.content["vocabulary"].index("a1") not in letters.encode(text)


@given(st.text(alphabet=[*"ab ", "\ud83d", "\udc0e", "\udfff"], max_size=30))
def test_encode_of_half_surrogate_pairs_equals_replacement_characters(text: str) -> None:
    """Whole pairs are their character, halves are U+FFFD; nothing crashes."""
    tokenizer = ByteBpeTokenizer.train(["a b ab"], ByteBpe(vocab_size=300))
    mended = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert tokenizer.encode(text) == encoded_by_library(tokenizer, mended)
