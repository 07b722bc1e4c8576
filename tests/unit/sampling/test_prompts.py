"""Prompts: files, empty ones, unknown characters, long ones; every message once."""

from pathlib import Path

import pytest

from ml_playground.core.error_handling import ConfigError
from ml_playground.core.tokenizer_protocol import Specials
from ml_playground.sampling.prompts import encode_prompt, first_ids, prompt_text
from ml_playground.tokenization.byte import END_OF_TEXT, ByteTokenizer
from ml_playground.tokenization.char import CharTokenizer
from ml_playground.tokenization.settings import Word
from ml_playground.tokenization.word import WordTokenizer

LETTERS = CharTokenizer("\nabc")


def test_prompt_text_plain_is_itself() -> None:
    """A text without the mark is the prompt."""
    assert prompt_text("once upon") == "once upon"


def test_prompt_text_file_is_its_whole_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`FILE:` reads UTF-8, line ends as they are."""
    (tmp_path / "prompt.txt").write_bytes("zwölf\r\n".encode())
    monkeypatch.chdir(tmp_path)
    assert prompt_text("FILE:prompt.txt") == "zwölf\r\n"


def test_prompt_text_missing_file_names_it(tmp_path: Path) -> None:
    """The message shows where it was looked for."""
    with pytest.raises(ConfigError, match=r"names a file that is not there \(/.*none.txt\); correct the path"):
        prompt_text(f"FILE:{tmp_path / 'none.txt'}")


def test_prompt_text_folder_is_refused(tmp_path: Path) -> None:
    """A folder is no text."""
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory; name a readable text file"):
        prompt_text(f"FILE:{tmp_path}")


def test_prompt_text_other_encoding_names_the_byte(tmp_path: Path) -> None:
    """Latin-1 is not guessed."""
    (tmp_path / "latin").write_bytes(b"abc\xfcd")
    with pytest.raises(ConfigError, match=r"is not UTF-8 \(byte 3: .*\); convert the file to UTF-8"):
        prompt_text(f"FILE:{tmp_path / 'latin'}")


def test_prompt_text_empty_file_is_refused(tmp_path: Path) -> None:
    """An empty file is a mistake; an empty prompt is written as one."""
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"names an empty file; put a text into it, or use --prompt ''"):
        prompt_text(f"FILE:{tmp_path / 'empty'}")


def test_encode_prompt_known_characters_says_nothing() -> None:
    """A prompt that the model reads whole needs no note."""
    prompt = encode_prompt("abc", LETTERS, 3)
    assert (prompt.text, list(prompt.ids), list(prompt.notes)) == ("abc", [1, 2, 3], [])


def test_encode_prompt_some_unknown_characters_are_listed() -> None:
    """They become the unknown id, and that is said."""
    prompt = encode_prompt("aXbX?", LETTERS, None)
    assert list(prompt.ids) == [1, 4, 2, 4, 4]
    assert list(prompt.notes) == ["the model does not know these characters of the prompt 'aXbX?': 'X' '?'"]


def test_encode_prompt_only_unknown_characters_is_refused() -> None:
    """A model that reads nothing of the prompt would go on from nothing."""
    with pytest.raises(
        ConfigError, match=r"knows no character of the prompt 'XYX' \('X' 'Y'\); its tokenizer has learned others. Use"
    ):
        encode_prompt("XYX", LETTERS, None)


def test_encode_prompt_many_unknown_characters_are_counted() -> None:
    """A prompt in another script does not fill the screen."""
    with pytest.raises(ConfigError, match=r"prompt 'АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯАБВГДЕЖЗ\.\.\.' .*'Л' and 20 more"):
        encode_prompt("АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ" * 2, LETTERS, None)


def test_encode_prompt_unknown_white_space_counts_as_empty() -> None:
    """The default prompt, a line break, works for a text without any."""
    prompt = encode_prompt("\n", CharTokenizer("ab"), None)
    assert list(prompt.ids) == [0]
    assert list(prompt.notes) == [
        "the model does not know the white space '\\n'; the text begins as after an empty prompt"
    ]


def test_encode_prompt_longer_than_the_context_says_what_is_read() -> None:
    """Ten tokens in a context of four: the window that is used has three."""
    prompt = encode_prompt("abcabcabca", LETTERS, 4)
    assert len(prompt.ids) == 10
    assert list(prompt.notes) == [
        "the prompt 'abcabcabca' has 10 tokens, more than the model's context of 4; only the last 4 are read"
    ]


class Marked(ByteTokenizer):
    """Bytes with a mark of a beginning."""

    @property
    def specials(self) -> Specials:
        """Beginning and end."""
        return Specials(bos=7, eos=END_OF_TEXT)


def test_first_ids_are_the_best_that_the_tokenizer_has() -> None:
    """A beginning, else an end, else a line break, else id 0."""
    assert first_ids(Marked()) == [7]
    assert first_ids(ByteTokenizer()) == [END_OF_TEXT]
    assert first_ids(LETTERS) == [0]
    assert first_ids(CharTokenizer("Xab")) == [0]
    assert first_ids(CharTokenizer("\t\n")) == [1]
    assert encode_prompt("", ByteTokenizer(), 8).ids == [END_OF_TEXT]
    assert encode_prompt("", ByteTokenizer(), 8).notes == ()


def test_encode_prompt_unknown_words_are_listed_as_words() -> None:
    """Of a tokenizer with one id for a word no character is known by itself."""
    tokenizer = WordTokenizer.train(["to be or not to be.\nto be"], Word())
    (note,) = encode_prompt("to bee or be.", tokenizer, None).notes
    assert note == "the model does not know these words of the prompt 'to bee or be.': 'bee' 'or' '.'"
    with pytest.raises(ConfigError, match=r"knows no word of the prompt 'wurld' \('wurld'\); .* Use words that occur"):
        encode_prompt("wurld", tokenizer, None)
