"""One id for each frequent word: words, numbers, runs of signs and of blanks as GPT-2's pre-tokenizer cuts them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from ml_playground.core.error_handling import DataError
from ml_playground.core.tokenizer_protocol import Ids, Specials, ids_dtype
from ml_playground.tokenization.ascii_words import CUT, Positions
from ml_playground.tokenization.cached_encoder import CachedEncoder, flat_ids
from ml_playground.tokenization.no_text import no_text
from ml_playground.tokenization.settings import Word
from ml_playground.tokenization.stored import content_of_kind, damaged, fingerprint_of, strings, write_content
from ml_playground.tokenization.word_counts import WordCounts, words_of_piece

KIND = "word"
# The unknown word and the end of text, behind all words.
MARKS = 2
BLANK = b" "
REPLACEMENT = "\N{REPLACEMENT CHARACTER}".encode()


class WordTokenizer:
    """Words in the order of their frequency, each with the blank before it; every other word is the unknown id."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._unknown = len(self._words)
        self._bytes = [word.encode() for word in self._words]
        self._ids = {word: index for index, word in enumerate(self._bytes)}
        self._fingerprint = fingerprint_of(KIND, {"words": self._words})
        self._dtype = ids_dtype(self.vocab_size)
        self._encoder = CachedEncoder(self._dtype, self._encode_words)

    @property
    def vocab_size(self) -> int:
        """The words, the unknown one and the end of text."""
        return len(self._words) + MARKS

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the words in order."""
        return self._fingerprint

    @property
    def specials(self) -> Specials:
        """Unknown and eos."""
        return Specials(eos=self._unknown + 1, unknown=self._unknown)

    def encode(self, text: str) -> list[int]:
        """An id for each word; half a surrogate pair becomes U+FFFD."""
        return self._encoder.encode(text)

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """An id for each word of each text."""
        return self._encoder.encode_arrays(texts)

    def _encode_words(self, pieces: list[str]) -> tuple[Ids, Positions]:
        # Around what is not ASCII a piece may be several words.
        found = [[index for word in words_of_piece(piece) for index in self._ids_of(word)] for piece in pieces]
        return flat_ids(found, self._dtype)

    def _ids_of(self, word: bytes) -> list[int]:
        """Its id; of a word that is known without the blank before it alone, the blank's and its."""
        ids = self._ids
        if word not in ids and word.startswith(BLANK) and BLANK in ids and word[1:] in ids:
            return [ids[BLANK], ids[word[1:]]]
        return [ids.get(word, self._unknown)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text; an unknown word becomes U+FFFD, ends of text are left out."""
        words = [*self._bytes, REPLACEMENT, b""]
        return b"".join(words[index] for index in ids).decode()

    def token_bytes(self) -> Sequence[int]:
        """UTF-8 bytes of each word, (V,); 0 for unknown and the end of text."""
        return [*map(len, self._bytes), *[0] * MARKS]

    def save(self, folder: Path) -> None:
        """Write the words."""
        write_content(folder, KIND, {"words": self._words})

    @staticmethod
    def safe_cut(text: str, start: int) -> int | None:
        """The next blank or line break after a visible character."""
        found = CUT.search(text, max(1, start))
        return found.start() if found else None

    learning_cut = safe_cut

    @classmethod
    def train(cls, texts: Iterable[str], settings: Word) -> Self:
        """Take the most frequent words.

        Raises:
            DataError: There is no text, or no word in it is frequent enough.
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
    def learnt(cls, learner: WordCounts, settings: Word) -> Self:
        """As `train`, from counted words.

        Raises:
            DataError: There is no text, or no word in it is frequent enough.
        """
        counts = learner.counts()
        if not counts:
            raise no_text(settings.kind, "so there are no words to learn for the vocabulary")
        frequent = [word for word, count in counts.items() if count >= settings.min_count]
        if not frequent:
            raise DataError(
                f"None of the {len(counts):,} different words of the training part occurs "
                f"prepare.tokenizer.min_count = {settings.min_count} times; lower it, or give prepare.source more text."
            )
        # Of equally frequent words the order of their bytes decides.
        frequent.sort(key=lambda word: (-counts[word], word))
        return cls([word.decode() for word in frequent[: settings.vocab_size - MARKS]])

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: The folder does not hold a whole word tokenizer.
        """
        words = strings(folder, content_of_kind(folder, KIND), "words")
        if not words or not all(map(is_word, words)):
            raise damaged(folder, "'words' is not a list of words in UTF-8")
        return cls(words)


def is_word(text: str) -> bool:
    """Whether a text can be a word: there is something, and UTF-8 has it."""
    return text != "" and text.encode("utf-8", "replace").decode() == text
