"""The ids of words that occurred before, gathered for a whole text at once."""

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.tokenizer_protocol import Ids
from ml_playground.tokenization.ascii_words import CUT, Positions, Words, split_words
from ml_playground.tokenization.word_table import EMPTY, WordTable

# English or Python of 10 MB has 50,000 different words. In scripts without blanks a whole line is one word: the second
# limit bounds those. A cache of both sizes has 60 MB.
LIMIT_WORDS = 1 << 17
LIMIT_BYTES = 1 << 24

Split = Callable[[Sequence[str]], Words]


class KnownWords:
    """A growing list of words with their ids: first `numbers`, then `add_ids` of what `without_ids` names, then `ids`."""

    def __init__(self, dtype: type[np.uint16] | type[np.uint32], split: Split = split_words) -> None:
        self._dtype = dtype
        self._split = split
        self._table = WordTable()
        self._pieces: dict[str, int] = {}
        # By number: how many words have ids, where those begin in `_flat`, how many they are.
        self._filled = 0
        self._first = np.empty(0, dtype=np.int64)
        self._sizes = np.empty(0, dtype=np.int64)
        self._flat: NDArray[np.uint16 | np.uint32] = np.empty(0, dtype=dtype)
        self._bytes = 0

    def __len__(self) -> int:
        """Words in it."""
        return len(self._table.words)

    @property
    def is_full(self) -> bool:
        """Whether it is time for an empty one."""
        return len(self) > LIMIT_WORDS or self._bytes > LIMIT_BYTES

    def numbers(self, texts: Sequence[str]) -> tuple[Positions, Positions]:
        """The numbers of the texts' words, in order, (words,); and how many there are up to the end of each, (texts,).

        Raises:
            UnicodeEncodeError: A text holds half a surrogate pair.
        """
        words = self._split(texts)
        numbers = self._table.numbers(words)
        if not len(words.foreign):
            return numbers, words.ends
        pieces = [CUT.split(stretch.decode()) for stretch in words.pick(words.foreign)]
        repeats = np.ones(len(numbers), dtype=np.int64)
        repeats[words.foreign] = [len(some) for some in pieces]
        numbers = np.repeat(numbers, repeats)
        numbers[numbers == EMPTY] = self._numbers_of_pieces(list(chain.from_iterable(pieces)))
        return numbers, np.append(0, np.cumsum(repeats))[words.ends]

    def _numbers_of_pieces(self, pieces: list[str]) -> list[int]:
        """The same for what only Python's pattern could cut."""
        new = list(set(pieces).difference(self._pieces))
        self._pieces.update(zip(new, self._table.numbers_of(piece.encode() for piece in new), strict=True))
        return list(map(self._pieces.__getitem__, pieces))

    def without_ids(self) -> list[str]:
        """The words that are new since the last `add_ids`."""
        return [word.decode() for word in self._table.words[self._filled :]]

    def add_ids(self, ids: Ids, sizes: Positions) -> None:
        """The ids of the words that `without_ids` names, one after the other, and how many each has."""
        first = len(self._flat) + np.cumsum(sizes) - sizes
        self._bytes += sum(map(len, self._table.words[self._filled :]))
        self._filled += len(sizes)
        self._first = np.concatenate([self._first, first])
        self._sizes = np.concatenate([self._sizes, sizes])
        self._flat = np.concatenate([self._flat, ids])

    def ids(self, numbers: Positions, ends: Positions) -> list[Ids]:
        """The ids of each text, from what `numbers` gave."""
        sizes = self._sizes[numbers]
        after: Positions = np.append(0, np.cumsum(sizes))
        # Where each id lies: from its word's first place on, one further with each.
        shifts: Positions = self._first[numbers] - after[:-1]
        places: Positions = np.repeat(shifts, sizes) + np.arange(int(after[-1]))
        return np.split(self._flat[places], after[ends[:-1]])
