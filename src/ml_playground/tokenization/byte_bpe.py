"""Byte-level byte-pair encoding, trained on the training text with Hugging Face `tokenizers`; lossless."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from ml_playground.core.error_handling import DataError
from ml_playground.core.tokenizer_protocol import Ids, Specials, ids_dtype
from ml_playground.tokenization.settings import ByteBpe
from ml_playground.tokenization.stored import (
    content_of_kind,
    damaged,
    fingerprint_of,
    strings,
    write_content,
)

KIND = "byte_bpe"
END_OF_TEXT = "<|endoftext|>"

# GPT-2's pre-tokenizer as it acts on ASCII, where Python's classes and the library's are surely the same.
# Source: https://github.com/openai/gpt-2/blob/master/src/encoder.py
ASCII_WORDS = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII)

# Every piece of GPT-2's pre-tokenizer is blanks alone, or at most one blank and then none: before a blank that follows a
# surely visible character one piece always ends, and the next begins without looking back.
CUT = re.compile(r"(?<=[!-~\w])(?=[ \n])")

# A word and its ids take about 200 bytes here; an English or Python text of 10 MB has 50,000 different ones.
CACHED_WORDS = 1 << 17
# Longer ones seldom occur twice; in scripts without blanks a whole line is one word. A word of that many characters takes
# 700 bytes at most, so that a full cache has 90 MB.
LONGEST_CACHED_CHARACTERS = 32


def byte_letters() -> dict[str, int]:
    """The printable letter that stands for each byte in vocabularies of this kind, and the byte.

    Source: `bytes_to_unicode`, https://github.com/openai/gpt-2/blob/master/src/encoder.py
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


BYTE_OF_LETTER = byte_letters()


class ByteBpeTokenizer:
    """Pieces of words as ids; `<|endoftext|>` is an id of its own that no text is ever turned into."""

    def __init__(self, vocabulary: Sequence[str], merges: Sequence[tuple[str, str]]) -> None:
        self._content: Mapping[str, Any] = {
            "end_of_text": END_OF_TEXT,
            "vocabulary": list(vocabulary),
            "merges": [list(merge) for merge in merges],
        }
        self._ids = {token: index for index, token in enumerate(vocabulary)}
        self._fingerprint = fingerprint_of(KIND, self._content)
        self._bytes = [
            b"" if token == END_OF_TEXT else bytes(BYTE_OF_LETTER[letter] for letter in token) for token in vocabulary
        ]
        # The end of text is left out of the library's special tokens: those it would find inside of texts.
        self._library = _untrained(models.BPE(vocab=self._ids, merges=list(merges)))
        self._dtype = ids_dtype(len(vocabulary))
        self._cache: dict[str, bytes] = {}

    @property
    def vocab_size(self) -> int:
        """What training found, at most what was asked for."""
        return len(self._bytes)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over vocabulary and merges, in order."""
        return self._fingerprint

    @property
    def specials(self) -> Specials:
        """Only eos."""
        return Specials(eos=self._ids[END_OF_TEXT])

    def encode(self, text: str) -> list[int]:
        """Ids of a text; half a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD."""
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self.encode_arrays([whole])[0].tolist()

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text; word by word from a cache, for most words of a text occurred before.

        Two to three times the library's speed on two cores, and without its 200 bytes for each token.
        """
        return [self._encode_words(ASCII_WORDS.findall(text) if text.isascii() else CUT.split(text)) for text in texts]

    def _encode_words(self, words: list[str]) -> Ids:
        """Ids of words that the pre-tokenizer never joins."""
        missing = list(set(words).difference(self._cache))
        if len(self._cache) + len(missing) > CACHED_WORDS:
            self._cache.clear()
            missing = list(set(words))
        for word, ids in zip(missing, self._encode_with_library(missing), strict=True):
            self._cache[word] = ids.tobytes()
        ids = np.frombuffer(b"".join(map(self._cache.__getitem__, words)), dtype=self._dtype)
        for word in missing:
            if len(word) > LONGEST_CACHED_CHARACTERS:
                del self._cache[word]
        return ids

    def _encode_with_library(self, texts: list[str]) -> list[Ids]:
        found = self._library.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(one.ids, dtype=self._dtype) for one in found]

    def decode(self, ids: Sequence[int]) -> str:
        """The text; bytes that are no valid UTF-8 become U+FFFD, ends of text are left out."""
        return b"".join(self._bytes[index] for index in ids).decode("utf-8", "replace")

    def token_bytes(self) -> Sequence[int]:
        """Bytes each id stands for, (V,); 0 for the end of text."""
        return [len(one) for one in self._bytes]

    def save(self, folder: Path) -> None:
        """Write vocabulary and merges."""
        write_content(folder, KIND, self._content)

    @staticmethod
    def safe_cut(text: str, start: int) -> int | None:
        """The next blank or line break after a visible character."""
        found = CUT.search(text, max(1, start))
        return found.start() if found else None

    @classmethod
    def train(cls, texts: Iterable[str], settings: ByteBpe) -> Self:
        """Merge the most frequent pairs until the vocabulary is full or no pair is frequent enough.

        Raises:
            DataError: There is no text.
        """
        filled = (text for text in texts if text)
        first = next(filled, None)
        if first is None:
            raise DataError(
                f"The training part holds no text, so a {settings.kind!r} tokenizer has nothing to merge; "
                "give prepare.source more text, or prepare.val_fraction and prepare.test_fraction less of it."
            )
        trainer = trainers.BpeTrainer(
            vocab_size=settings.vocab_size,
            min_frequency=settings.min_frequency,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=sorted(BYTE_OF_LETTER),
            show_progress=False,
        )
        library = _untrained(models.BPE())
        library.train_from_iterator(chain([first], filled), trainer)
        model: dict[str, Any] = json.loads(library.to_str())["model"]
        vocabulary: dict[str, int] = model["vocab"]
        return cls(sorted(vocabulary, key=vocabulary.__getitem__), [(left, right) for left, right in model["merges"]])

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: The folder does not hold a whole byte_bpe tokenizer.
        """
        content = content_of_kind(folder, KIND)
        vocabulary = strings(folder, content, "vocabulary")
        known = set(vocabulary)
        if not known.issuperset([END_OF_TEXT, *BYTE_OF_LETTER]):
            raise damaged(folder, "'vocabulary' lacks some bytes or the end of text")
        if any(not BYTE_OF_LETTER.keys() >= set(token) for token in vocabulary):
            raise damaged(folder, "'vocabulary' has letters that stand for no byte")
        merges = list(_pairs(folder, content.get("merges")))
        if any(not {left, right, left + right} <= known for left, right in merges):
            raise damaged(folder, "'merges' names what 'vocabulary' does not")
        return cls(vocabulary, merges)


def _untrained(model: models.BPE) -> Tokenizer:
    library = Tokenizer(model)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return library


def _pairs(folder: Path, merges: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(merges, list):
        raise damaged(folder, "'merges' is not a list")
    for merge in cast(list[Any], merges):
        match merge:
            case [str(left), str(right)]:
                yield left, right
            case _:
                raise damaged(folder, f"{merge!r} among 'merges' is not a pair of texts")
