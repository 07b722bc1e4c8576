"""A tokenizer of ours as files that transformers' AutoTokenizer opens: rules of the library `tokenizers` with equal ids.

Equal for every text that UTF-8 can hold, and so is what ids are decoded to: proved by tests on random text. A kind whose rules the
library has not is refused, with the reason.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from ml_playground.core.error_handling import ConfigError
from ml_playground.tokenization.byte_bpe import END_OF_TEXT
from ml_playground.tokenization.byte_letters import BYTE_OF_LETTER
from ml_playground.tokenization.hugging_face import INSIDE
from ml_playground.tokenization.stored import read_content, read_files

RULES, CONFIG = "tokenizer.json", "tokenizer_config.json"

UNKNOWN = "<unk>"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LETTER_OF_BYTE = {byte: letter for letter, byte in BYTE_OF_LETTER.items()}
BLANK = LETTER_OF_BYTE[ord(" ")]

GROUPED_LETTERS = 3
"""How many letters of words are told apart one by one in a pattern; with none every word would be tried at every place."""

REASONS: Mapping[str, str] = {
    "ngram": "its groups of characters begin anew with each word, and a rare one is written in characters, which no model of that "
    "library does",
    "tiktoken_bpe": "it merges by ranks where that library merges by a list; prepare with the same tokenizer in Hugging Face form "
    "(prepare.tokenizer.kind = 'hugging_face')",
    "sentencepiece_model": "its rules for blanks and normalisation are not proved equal to any of that library; prepare with the same "
    "tokenizer in Hugging Face form (prepare.tokenizer.kind = 'hugging_face')",
}


def library_files(folder: Path) -> dict[str, bytes]:
    """The files of a folder for AutoTokenizer, by name.

    Args:
        folder: What `Tokenizer.save` wrote.

    Raises:
        ConfigError: The library has no rules that are equal to this tokenizer's.
        DataError: The folder holds no whole tokenizer.
    """
    content = read_content(folder)
    kind = str(content.get("kind"))
    if kind == "hugging_face":
        # Written by transformers itself; what a text is turned into is its business.
        files = read_files(folder, content.get("files"))
        return {name.removeprefix(f"{INSIDE}/"): file for name, file in files.items()}
    if kind not in FORMS:
        why = REASONS.get(kind, "nothing is known of its rules here")
        raise ConfigError(
            f"prepare.tokenizer.kind = {kind!r} has no equal in the library `tokenizers`: {why}. Export the model alone with "
            "--without-tokenizer; its ids mean what the run's own tokenizer says."
        )
    return FORMS[kind](content)


def _byte(_: Mapping[str, Any]) -> dict[str, bytes]:
    vocabulary = {**BYTE_OF_LETTER, END_OF_TEXT: len(BYTE_OF_LETTER)}
    rules = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    rules.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    rules.decoder = decoders.ByteLevel()
    return _files(rules, end_of_text=END_OF_TEXT)


def _char(content: Mapping[str, Any]) -> dict[str, bytes]:
    characters: list[str] = content["characters"]
    if any("\ud800" <= character <= "\udfff" for character in characters):
        raise ConfigError(
            "The vocabulary holds half a surrogate pair, which no file of the library `tokenizers` can; export the model alone with "
            "--without-tokenizer."
        )
    vocabulary = {character: index for index, character in enumerate([*characters, UNKNOWN])}
    # Without merges a text stays in characters, so that no text becomes the name of what is unknown.
    rules = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN, fuse_unk=False))
    rules.decoder = decoders.Sequence([decoders.Replace(UNKNOWN, REPLACEMENT), decoders.Fuse()])
    return _files(rules)


def _word(content: Mapping[str, Any]) -> dict[str, bytes]:
    words = [_letters(word) for word in content["words"]]
    vocabulary = {word: index for index, word in enumerate([*words, UNKNOWN, END_OF_TEXT])}
    rules = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token=UNKNOWN))
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alone = [word for word in words if BLANK in vocabulary and BLANK + word not in vocabulary]
    if alone:
        # A word that is known without the blank before it alone is the blank's id and its.
        pattern = Regex(rf"\A{BLANK}(?=(?:{_one_of(alone)})\z)")
        rules.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.Split(pattern, "isolated")])
    else:
        rules.pre_tokenizer = cut
    rules.decoder = decoders.Sequence([decoders.Replace(UNKNOWN, _letters(REPLACEMENT)), decoders.ByteLevel()])
    return _files(rules, end_of_text=END_OF_TEXT)


def _byte_bpe(content: Mapping[str, Any]) -> dict[str, bytes]:
    vocabulary = {token: index for index, token in enumerate(content["vocabulary"])}
    rules = Tokenizer(models.BPE(vocab=vocabulary, merges=[(left, right) for left, right in content["merges"]]))
    rules.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rules.decoder = decoders.ByteLevel()
    return _files(rules, end_of_text=END_OF_TEXT)


FORMS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, bytes]]] = {
    "byte": _byte, "char": _char, "word": _word, "byte_bpe": _byte_bpe,
}  # fmt: skip
"""Kind -> the files of what `Tokenizer.save` wrote."""


def _files(rules: Tokenizer, end_of_text: str | None = None) -> dict[str, bytes]:
    config: dict[str, Any] = {
        # Any other class would build rules of its own.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        # No text is ever turned into a special token, as here.
        "split_special_tokens": True,
    }
    if end_of_text is not None:
        rules.add_special_tokens([AddedToken(end_of_text, special=True, normalized=False)])
        config["eos_token"] = end_of_text
    return {RULES: rules.to_str().encode(), CONFIG: json.dumps(config, indent=2, sort_keys=True).encode()}


def _letters(word: str) -> str:
    return "".join(LETTER_OF_BYTE[byte] for byte in word.encode())


def _one_of(words: Iterable[str], letters: int = GROUPED_LETTERS) -> str:
    """A pattern for any of the words, grouped by their first letters."""
    if letters == 0:
        return "|".join(map(_escaped, words))
    grouped: Sequence[tuple[str, list[str]]] = [
        (first, [word[1:] for word in group]) for first, group in groupby(sorted(words), lambda word: word[:1])
    ]
    return "|".join(f"{_escaped(first)}(?:{_one_of(rest, letters - 1)})" if first else "" for first, rest in grouped)


def _escaped(text: str) -> str:
    return "".join(letter if letter.isalnum() else f"\\{letter}" for letter in text)
