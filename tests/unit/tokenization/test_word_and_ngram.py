"""`word` and `ngram`: which words and groups they learn, and what they refuse."""

import json
from pathlib import Path

import pytest

from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.tokenization.loading import load_tokenizer
from ml_playground.tokenization.ngram import NgramTokenizer
from ml_playground.tokenization.settings import Ngram, Word
from ml_playground.tokenization.word import WordTokenizer


def words_of(tokenizer: WordTokenizer | NgramTokenizer) -> list[str]:
    """What each id but the marks stands for."""
    return [tokenizer.decode([index]) for index in range(tokenizer.vocab_size - 2)]


def test_words_are_learnt_by_frequency_then_by_bytes() -> None:
    """A larger vocabulary begins with the smaller one."""
    text = " b b b c c a a d"
    assert words_of(WordTokenizer.train([text], Word())) == [" b", " a", " c"]
    assert words_of(WordTokenizer.train([text], Word(vocab_size=4))) == [" b", " a"]
    assert words_of(WordTokenizer.train([text], Word(min_count=1))) == [" b", " a", " c", " d"]


def test_words_learnt_in_shares_equal_those_of_the_whole() -> None:
    """Several processes may each count a share."""
    whole, share = WordTokenizer.learner(), WordTokenizer.learner()
    whole.add("a b a")
    share.add(" b c é")
    whole.absorb(share.state())
    assert (
        WordTokenizer.learnt(whole, Word()).fingerprint == WordTokenizer.train(["a b a", " b c é"], Word()).fingerprint
    )


def test_word_known_without_its_blank_is_a_blank_and_the_word() -> None:
    """It stands at the beginning of lines in the training text, and behind a blank in this one."""
    tokenizer = WordTokenizer.train(["one\n two  two"], Word(min_count=1))
    ids = tokenizer.encode(" one two three")
    assert [tokenizer.decode([index]) for index in ids] == [" ", "one", " two", "\ufffd"]


def test_word_rarer_than_all_limits_says_what_to_lower() -> None:
    """Nothing is learnt from a text in which nothing repeats."""
    with pytest.raises(
        DataError, match=r"None of the 3 different words .* prepare\.tokenizer\.min_count = 2 times; lower it"
    ):
        WordTokenizer.train(["a b c"], Word())


def test_ngram_knows_all_characters_then_the_most_frequent_groups() -> None:
    """Groups begin anew with each word: the one of ` ab` is the same wherever it stands."""
    tokenizer = NgramTokenizer.train(["ab ab abc"], Ngram(n=3))
    assert words_of(tokenizer) == [" ", "a", "b", "c", " ab"]
    assert [tokenizer.decode([index]) for index in tokenizer.encode("abc abc")] == ["a", "b", "c", " ab", "c"]


def test_ngram_too_small_for_the_characters_says_how_large() -> None:
    """The characters alone must fit."""
    with pytest.raises(ConfigError, match=r"vocab_size = 5 is less than the 4 different characters .* at least 6\."):
        NgramTokenizer.train(["abcd"], Ngram(vocab_size=5))
    assert NgramTokenizer.train(["abcd"], Ngram(vocab_size=6)).vocab_size == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "word", "words": []}, "'words' is not a list of words in UTF-8"),
        ({"kind": "word", "words": ["a", ""]}, "'words' is not a list of words in UTF-8"),
        ({"kind": "word", "words": ["\ud800"]}, "'words' is not a list of words in UTF-8"),
        ({"kind": "word"}, "'words' is not a list of texts"),
        ({"kind": "ngram", "n": 2, "groups": ["a", "a"]}, "'groups' names a text twice"),
        (
            {"kind": "ngram", "n": 2, "groups": ["abc"]},
            "'groups' is not a list of groups of 1 to 2 characters in UTF-8",
        ),
        ({"kind": "ngram", "n": 2, "groups": []}, "'groups' is not a list of groups"),
        ({"kind": "ngram", "n": 9, "groups": ["a"]}, "'n' is not a number from 1 to 8"),
        ({"kind": "ngram", "n": True, "groups": ["a"]}, "'n' is not a number from 1 to 8"),
        ({"kind": "ngram", "groups": ["a"]}, "'n' is not a number from 1 to 8"),
    ],
)
def test_load_of_damaged_content_says_what_is_wrong(tmp_path: Path, content: dict[str, object], message: str) -> None:
    """No damage is read as a tokenizer."""
    (tmp_path / "tokenizer.json").write_text(json.dumps({"schema_version": 1, **content}))
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)
