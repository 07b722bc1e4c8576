"""One id for each frequent group of n characters, and one for each character."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from ml_playground.core.error_handling import ConfigError
from ml_playground.core.tokenizer_protocol import Ids, Specials, ids_dtype
from ml_playground.tokenization import character_groups
from ml_playground.tokenization.ascii_words import Positions
from ml_playground.tokenization.cached_encoder import CachedEncoder, flat_ids
from ml_playground.tokenization.no_text import no_text
from ml_playground.tokenization.settings import Ngram
from ml_playground.tokenization.stored import content_of_kind, damaged, fingerprint_of, strings, write_content
from ml_playground.tokenization.word import MARKS, REPLACEMENT, is_word
from ml_playground.tokenization.word_counts import WordCounts

KIND = "ngram"
LARGEST = 8


class NgramTokenizer:
    """Characters in the order of their code points, then groups in the order of their frequency.

    A group without an id is written in characters, so that only characters are ever unknown.
    """

    def __init__(self, n: int, groups: Sequence[str]) -> None:
        """`groups`: single characters and groups, by their ids."""
        self._content = {"n": n, "groups": list(groups)}
        self._unknown = len(groups)
        self._bytes = [group.encode() for group in groups]
        self._ids = {group: index for index, group in enumerate(groups)}
        self._fingerprint = fingerprint_of(KIND, self._content)
        self._dtype = ids_dtype(self.vocab_size)
        self._encoder = CachedEncoder(self._dtype, self._encode_groups, partial(character_groups.split_groups, n=n))

    @property
    def vocab_size(self) -> int:
        """Characters and groups, the unknown character and the end of text."""
        return len(self._bytes) + MARKS

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over n and the groups in order."""
        return self._fingerprint

    @property
    def specials(self) -> Specials:
        """Unknown and eos."""
        return Specials(eos=self._unknown + 1, unknown=self._unknown)

    def encode(self, text: str) -> list[int]:
        """Ids of the groups; half a surrogate pair becomes U+FFFD."""
        return self._encoder.encode(text)

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of the groups of each text."""
        return self._encoder.encode_arrays(texts)

    def _encode_groups(self, groups: list[str]) -> tuple[Ids, Positions]:
        ids, unknown = self._ids, self._unknown
        return flat_ids(
            [
                [ids[group]] if group in ids else [ids.get(character, unknown) for character in group]
                for group in groups
            ],
            self._dtype,
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text; an unknown character becomes U+FFFD, ends of text are left out."""
        groups = [*self._bytes, REPLACEMENT, b""]
        return b"".join(groups[index] for index in ids).decode()

    def token_bytes(self) -> Sequence[int]:
        """UTF-8 bytes of each group, (V,); 0 for unknown and the end of text."""
        return [*map(len, self._bytes), *[0] * MARKS]

    def save(self, folder: Path) -> None:
        """Write n and the groups."""
        write_content(folder, KIND, self._content)

    @staticmethod
    def safe_cut(text: str, start: int) -> int | None:
        """The next beginning of a word; in words without end, the end of a group."""
        return character_groups.safe_cut(text, start)

    learning_cut = safe_cut

    @classmethod
    def train(cls, texts: Iterable[str], settings: Ngram) -> Self:
        """Take all characters and the most frequent groups.

        Raises:
            DataError: There is no text.
            ConfigError: The characters alone are more than the vocabulary.
        """
        counted = WordCounts(partial(character_groups.split_groups, n=settings.n))
        for text in texts:
            counted.add(text)
        counts = {group.decode(): count for group, count in counted.counts().items()}
        characters = sorted(set("".join(counts)))
        if not characters:
            raise no_text(settings.kind, "so there are no characters to learn for the vocabulary")
        room = settings.vocab_size - len(characters) - MARKS
        if room < 0:
            raise ConfigError(
                f"prepare.tokenizer.vocab_size = {settings.vocab_size} is less than the {len(characters):,} different "
                f"characters of the training part and {MARKS} marks; set it to at least {len(characters) + MARKS}."
            )
        frequent = [group for group, count in counts.items() if len(group) > 1 and count >= settings.min_count]
        # Of equally frequent groups the order of their code points decides.
        frequent.sort(key=lambda group: (-counts[group], group))
        return cls(settings.n, [*characters, *frequent[:room]])

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: The folder does not hold a whole ngram tokenizer.
        """
        content = content_of_kind(folder, KIND)
        groups = strings(folder, content, "groups")
        n = content.get("n")
        if type(n) is not int or not 1 <= n <= LARGEST:
            raise damaged(folder, f"'n' is not a number from 1 to {LARGEST}")
        if not groups or not all(is_word(group) and len(group) <= n for group in groups):
            raise damaged(folder, f"'groups' is not a list of groups of 1 to {n} characters in UTF-8")
        return cls(n, groups)
