"""How often each word occurs, counted at 40 MB/s on one core where `tokenizers` counts 4."""

import json
from collections import Counter

import numpy as np
from tokenizers import pre_tokenizers

from ml_playground.tokenization.ascii_words import CUT, split_words
from ml_playground.tokenization.byte_letters import BYTE_OF_LETTER
from ml_playground.tokenization.known_words import Split
from ml_playground.tokenization.word_table import WordTable

LATIN_OF_LETTER = {ord(letter): chr(byte) for letter, byte in BYTE_OF_LETTER.items()}

# Enough for the words of a language to be cut once; of lines in a script without blanks they are 20 MB.
LIMIT_PIECES = 1 << 16

_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)


def words_of_piece(piece: str) -> list[bytes]:
    """The words of GPT-2's pre-tokenizer in a text of any script."""
    return [letters.translate(LATIN_OF_LETTER).encode("latin-1") for letters, _ in _GPT2.pre_tokenize_str(piece)]


class WordCounts:
    """Words as bytes, of GPT-2's pre-tokenizer if no other way to split is given, with how often they came; grows with the
    different words alone.
    """

    def __init__(self, split: Split = split_words) -> None:
        self._split = split
        self._table = WordTable()
        # By number; longer than the table, so that it seldom grows.
        self._counts = np.zeros(1 << 12, dtype=np.int64)
        self._others: Counter[bytes] = Counter()
        # Stretches beyond ASCII between safe cuts: words mostly, in scripts without blanks whole lines.
        self._pieces: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Count a text that ends where a word does.

        Raises:
            UnicodeEncodeError: The text holds half a surrogate pair.
        """
        words = self._split([text])
        numbers = self._table.numbers(words)
        if len(words.foreign):
            for stretch in words.pick(words.foreign):
                self._pieces.update(CUT.split(stretch.decode()))
            if len(self._pieces) > LIMIT_PIECES:
                self._cut_pieces()
            numbers = np.delete(numbers, words.foreign)
        missing = len(self._table.words) - len(self._counts)
        if missing > 0:
            self._counts = np.append(self._counts, np.zeros(missing + len(self._counts), dtype=np.int64))
        np.add.at(self._counts, numbers, 1)

    def _cut_pieces(self) -> None:
        """Only the library knows which characters beyond ASCII are letters; it is asked once for each different piece."""
        for piece, count in self._pieces.items():
            for word in words_of_piece(piece):
                self._others[word] += count
        self._pieces.clear()

    def state(self) -> bytes:
        """All words with their counts, as JSON; each byte is the letter of its number."""
        return json.dumps({word.decode("latin-1"): count for word, count in self.counts().items()}).encode()

    def absorb(self, state: bytes) -> None:
        """Add what was counted elsewhere."""
        counts: dict[str, int] = json.loads(state)
        self._others.update({word.encode("latin-1"): count for word, count in counts.items()})

    def counts(self) -> dict[bytes, int]:
        """All words."""
        self._cut_pieces()
        all_counts = Counter(self._others)
        for word, count in zip(self._table.words, self._counts.tolist(), strict=False):
            all_counts[word] += count
        return dict(all_counts)
