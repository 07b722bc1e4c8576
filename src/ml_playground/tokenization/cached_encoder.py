"""Ids of texts by a library that is asked once for each different word: 5 to 50 times its own speed, and equal ids."""

from collections.abc import Callable, Iterator, Sequence
from threading import Lock

import numpy as np

from ml_playground.core.tokenizer_protocol import Ids
from ml_playground.tokenization.ascii_words import Positions, split_words
from ml_playground.tokenization.known_words import KnownWords, Split

# What is done with texts together; the arrays over their words then still fit the processor's cache.
GROUP_CHARACTERS = 1 << 18

EncodeWords = Callable[[list[str]], tuple[Ids, Positions]]


def whole_characters(text: str) -> str:
    """The text with U+FFFD for half a surrogate pair, which UTF-8 cannot hold; command lines may carry such characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class CachedEncoder:
    """Most words of a text occurred before, and their ids are looked up, all at once."""

    def __init__(
        self, dtype: type[np.uint16] | type[np.uint32], encode_words: EncodeWords, split: Split = split_words
    ) -> None:
        """What is remembered is bounded: a full cache starts over.

        Args:
            dtype: Of the ids.
            encode_words: The ids of all words, one after the other, and how many each has.
            split: Texts to words that have the same ids wherever they stand.
        """
        self._dtype = dtype
        self._encode_words = encode_words
        self._split = split
        self.known = KnownWords(dtype, split)
        # Two threads that learn words at once would mix up their numbers.
        self._lock = Lock()

    def encode(self, text: str) -> list[int]:
        """Ids of a text; half a surrogate pair becomes U+FFFD."""
        return self.encode_arrays([whole_characters(text)])[0].tolist()

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text.

        Raises:
            UnicodeEncodeError: A text holds half a surrogate pair.
        """
        with self._lock:
            return [ids for group in _groups(texts) for ids in self._encode_group(group)]

    def _encode_group(self, texts: Sequence[str]) -> list[Ids]:
        if self.known.is_full:
            self.known = KnownWords(self._dtype, self._split)
        numbers, ends = self.known.numbers(texts)
        if new := self.known.without_ids():
            self.known.add_ids(*self._encode_words(new))
        return self.known.ids(numbers, ends)


class PlainEncoder:
    """The same for tokenizers of which no part of a text has the ids that it has within the text."""

    def __init__(self, dtype: type[np.uint16] | type[np.uint32], encode_texts: EncodeWords) -> None:
        self._dtype = dtype
        self._encode_texts = encode_texts

    def encode(self, text: str) -> list[int]:
        """Ids of a text; half a surrogate pair becomes U+FFFD."""
        return self.encode_arrays([whole_characters(text)])[0].tolist()

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text.

        Raises:
            UnicodeEncodeError: A text holds half a surrogate pair.
        """
        ids, sizes = self._encode_texts(list(texts))
        return np.split(ids, np.cumsum(sizes)[:-1]) if len(sizes) else []


def flat_ids(found: Sequence[Sequence[int]], dtype: type[np.uint16] | type[np.uint32]) -> tuple[Ids, Positions]:
    """Lists of ids as one array, and how many each has."""
    sizes = np.array([len(ids) for ids in found], dtype=np.int64)
    return np.array([index for ids in found for index in ids], dtype=dtype), sizes


def _groups(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Short texts together: a call of numpy costs as much for a word as for a page."""
    first, held = 0, 0
    for place, text in enumerate(texts):
        held += len(text)
        if held >= GROUP_CHARACTERS:
            yield texts[first : place + 1]
            first, held = place + 1, 0
    if first < len(texts):
        yield texts[first:]
