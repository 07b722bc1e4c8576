"""Byte-level byte-pair encoding, trained on the training text, equal to Hugging Face `tokenizers`; lossless."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from ml_playground.core.error_handling import DataError
from ml_playground.core.tokenizer_protocol import Ids, Specials, ids_dtype
from ml_playground.tokenization.ascii_words import CUT, Positions
from ml_playground.tokenization.byte_letters import BYTE_OF_LETTER
from ml_playground.tokenization.cached_encoder import CachedEncoder, flat_ids
from ml_playground.tokenization.pair_merging import learn_merges
from ml_playground.tokenization.settings import ByteBpe
from ml_playground.tokenization.stored import (
    content_of_kind,
    damaged,
    fingerprint_of,
    strings,
    write_content,
)
from ml_playground.tokenization.word_counts import WordCounts

KIND = "byte_bpe"
END_OF_TEXT = "<|endoftext|>"

# Stands between words that the library encodes together; of private use, so that hardly any text has it.
BETWEEN_WORDS = "\ue000"


class ByteBpeTokenizer:
    """Pieces of words as ids; `<|endoftext|>` is an id of its own that no text is ever turned into."""

    def __init__(self, vocabulary: Sequence[str], merges: Sequence[tuple[str, str]]) -> None:
        # What `save` writes.
        self.content: Mapping[str, Any] = {
            "end_of_text": END_OF_TEXT,
            "vocabulary": list(vocabulary),
            "merges": [list(merge) for merge in merges],
        }
        self._ids = {token: index for index, token in enumerate(vocabulary)}
        self._fingerprint = fingerprint_of(KIND, self.content)
        self._bytes = [
            b"" if token == END_OF_TEXT else bytes(BYTE_OF_LETTER[letter] for letter in token) for token in vocabulary
        ]
        self._sizes = np.array([len(one) for one in self._bytes], dtype=np.int64)
        # The end of text is left out of the library's special tokens: those it would find inside of texts.
        model = models.BPE(vocab=self._ids, merges=list(merges))
        cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._library = _library(model, cut)
        # Pieces of text beyond ASCII may be several words, so that these are cut, too.
        between = pre_tokenizers.Split(BETWEEN_WORDS, "removed")
        self._library_of_words = _library(model, pre_tokenizers.Sequence([between, cut]))
        self._dtype = ids_dtype(len(vocabulary))
        self._encoder = CachedEncoder(self._dtype, self._encode_words)

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
        return self._encoder.encode(text)

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text; six times the library's speed on one core, and without its 200 bytes for each token."""
        return self._encoder.encode_arrays(texts)

    def _encode_words(self, words: list[str]) -> tuple[Ids, Positions]:
        """The ids of all words, and how many each has: the library answers once for all, not with an object for each."""
        if any(BETWEEN_WORDS in word for word in words):
            found = self._library.encode_batch_fast(words, add_special_tokens=False)
            return flat_ids([one.ids for one in found], self._dtype)
        joined = self._library_of_words.encode_batch_fast([BETWEEN_WORDS.join(words)], add_special_tokens=False)
        ids = np.array(joined[0].ids, dtype=self._dtype)
        ends = np.cumsum([len(word.encode()) for word in words])
        after = np.searchsorted(np.cumsum(self._sizes[ids]), ends) + 1
        return ids, np.diff(after, prepend=0)

    def decode(self, ids: Sequence[int]) -> str:
        """The text; bytes that are no valid UTF-8 become U+FFFD, ends of text are left out."""
        return b"".join(self._bytes[index] for index in ids).decode("utf-8", "replace")

    def token_bytes(self) -> Sequence[int]:
        """Bytes each id stands for, (V,); 0 for the end of text."""
        return [len(one) for one in self._bytes]

    def save(self, folder: Path) -> None:
        """Write vocabulary and merges."""
        write_content(folder, KIND, self.content)

    @staticmethod
    def safe_cut(text: str, start: int) -> int | None:
        """The next blank or line break after a visible character."""
        found = CUT.search(text, max(1, start))
        return found.start() if found else None

    learning_cut = safe_cut

    @classmethod
    def train(cls, texts: Iterable[str], settings: ByteBpe) -> Self:
        """Merge the most frequent pairs until the vocabulary is full or no pair is frequent enough.

        Raises:
            DataError: There is no text.
        """
        learner = cls.learner()
        for text in texts:
            learner.add(text)
        return cls.learnt(learner, settings)

    @staticmethod
    def learner() -> WordCounts:
        """What vocabularies of this kind are learnt from."""
        return WordCounts()

    @classmethod
    def learnt(cls, learner: WordCounts, settings: ByteBpe) -> Self:
        """As `train`, from counted words.

        Raises:
            DataError: There is no text.
        """
        words = learner.counts()
        if not words:
            raise DataError(
                f"The training part holds no text, so a {settings.kind!r} tokenizer has nothing to merge; "
                "give prepare.source more text, or prepare.val_fraction and prepare.test_fraction less of it."
            )
        letters = {byte: letter for letter, byte in BYTE_OF_LETTER.items()}
        vocabulary, merges = learn_merges(
            words,
            [END_OF_TEXT, *sorted(BYTE_OF_LETTER)],
            [letters[byte] for byte in range(256)],
            settings.vocab_size,
            settings.min_frequency,
        )
        return cls(vocabulary, merges)

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
        if any(not token or not BYTE_OF_LETTER.keys() >= set(token) for token in vocabulary):
            raise damaged(folder, "'vocabulary' has letters that stand for no byte, or a token without any")
        merges = list(_pairs(folder, content.get("merges")))
        if any(not {left, right, left + right} <= known for left, right in merges):
            raise damaged(folder, "'merges' names what 'vocabulary' does not")
        # No text may become the mark that ends one.
        if any(left + right == END_OF_TEXT for left, right in merges):
            raise damaged(folder, "'merges' makes the end of text out of text")
        return cls(vocabulary, merges)


def _library(model: models.BPE, pre_tokenizer: pre_tokenizers.PreTokenizer) -> Tokenizer:
    library = Tokenizer(model)
    library.pre_tokenizer = pre_tokenizer
    return library


def _pairs(folder: Path, merges: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(merges, list):
        raise damaged(folder, "'merges' is not a list")
    for merge in cast(list[Any], merges):
        match merge:
            case [str(left), str(right)]:
                yield left, right
            case _:
                raise damaged(folder, f"{merge!r:.60} among 'merges' is not a pair of texts")
