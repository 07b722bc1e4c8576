"""One id for each character of the training text."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.error_handling import DataError
from ml_playground.core.tokenizer_protocol import Ids, Specials, ids_dtype
from ml_playground.tokenization.settings import Char
from ml_playground.tokenization.stored import (
    content_of_kind,
    damaged,
    fingerprint_of,
    strings,
    write_content,
)

KIND = "char"
CODE_POINTS = 0x110000
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def code_points(text: str) -> NDArray[np.uint32]:
    """The code point of each character, lone surrogates among them."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


class CharTokenizer:
    """Characters in the order of their code points; the last id stands for every character that training never saw."""

    def __init__(self, characters: Sequence[str]) -> None:
        self._characters = list(characters)
        unknown = len(self._characters)
        known = code_points("".join(self._characters))
        dtype = ids_dtype(unknown + 1)
        # Codes beyond the table are clipped to its last entry, which is unknown: two lookups in one.
        self._ids = np.full(int(known.max()) + 2, unknown, dtype=dtype)
        self._ids[known] = np.arange(unknown, dtype=dtype)
        self._codes = np.append(known, np.uint32(ord(REPLACEMENT))).astype("<u4")
        self._fingerprint = fingerprint_of(KIND, {"characters": self._characters})

    @property
    def vocab_size(self) -> int:
        """The characters and the unknown id."""
        return len(self._characters) + 1

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the characters in order."""
        return self._fingerprint

    @property
    def specials(self) -> Specials:
        """Only unknown."""
        return Specials(unknown=len(self._characters))

    def encode(self, text: str) -> list[int]:
        """One id for each character."""
        return self.encode_arrays([text])[0].tolist()

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """One id for each character of each text."""
        return [self._ids.take(code_points(text), mode="clip") for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The characters; unknown ones become U+FFFD."""
        return self._codes[np.asarray(ids, dtype=np.int64)].tobytes().decode("utf-32-le", "surrogatepass")

    def token_bytes(self) -> Sequence[int]:
        """UTF-8 bytes of each character, (V,); 0 for unknown."""
        return [*(len(character.encode("utf-8", "surrogatepass")) for character in self._characters), 0]

    def save(self, folder: Path) -> None:
        """Write the characters."""
        write_content(folder, KIND, {"characters": self._characters})

    @staticmethod
    def safe_cut(text: str, start: int) -> int | None:
        """Anywhere."""
        return start

    learning_cut = safe_cut

    @classmethod
    def train(cls, texts: Iterable[str], settings: Char) -> Self:
        """Collect the characters that occur.

        Raises:
            DataError: There is no text.
        """
        seen = np.zeros(CODE_POINTS, dtype=np.bool_)
        # Of ASCII what is not yet known is looked for, four times as fast as a table of all characters is written.
        known = b""
        for text in texts:
            if not text.isascii():
                seen[code_points(text)] = True
            elif new := text.encode().translate(None, delete=known):
                known += bytes(set(new))
        seen[np.frombuffer(known, dtype=np.uint8)] = True
        characters = [chr(code) for code in np.flatnonzero(seen).tolist()]
        if not characters:
            raise DataError(
                f"The training part holds no text, so a {settings.kind!r} tokenizer has no characters to learn; "
                "give prepare.source more text, or prepare.val_fraction and prepare.test_fraction less of it."
            )
        return cls(characters)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: The folder does not hold a whole char tokenizer.
        """
        characters = strings(folder, content_of_kind(folder, KIND), "characters")
        if not characters or any(len(character) != 1 for character in characters):
            raise damaged(folder, "'characters' is not a list of single characters")
        return cls(characters)
