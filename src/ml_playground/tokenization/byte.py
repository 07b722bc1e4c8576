"""One id for each byte of UTF-8, and one for the end of a document."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from ml_playground.core.error_handling import DataError
from ml_playground.core.tokenizer_protocol import Ids, Specials
from ml_playground.tokenization.settings import Byte
from ml_playground.tokenization.stored import content_of_kind, fingerprint_of, write_content

KIND = "byte"
BYTES = 256
END_OF_TEXT = BYTES


class ByteTokenizer:
    """Ids 0 to 255 are the bytes; 256 ends a document."""

    @property
    def vocab_size(self) -> int:
        """The bytes and the end of text."""
        return BYTES + 1

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the rule; all byte tokenizers are the same."""
        return fingerprint_of(KIND, {"end_of_text": END_OF_TEXT})

    @property
    def specials(self) -> Specials:
        """Only eos."""
        return Specials(eos=END_OF_TEXT)

    def encode(self, text: str) -> list[int]:
        """The bytes of the text in UTF-8."""
        return list(text.encode("utf-8", "surrogatepass"))

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """The bytes of each text."""
        return [
            np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8).astype(np.uint16) for text in texts
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """The text; bytes that are no valid UTF-8 become U+FFFD, ends of text are left out."""
        return bytes(index for index in ids if index != END_OF_TEXT).decode("utf-8", "replace")

    def token_bytes(self) -> Sequence[int]:
        """1 for each byte, (V,); 0 for the end of text."""
        return [1] * BYTES + [0]

    def save(self, folder: Path) -> None:
        """Write the kind; there is nothing else to know."""
        write_content(folder, KIND, {"end_of_text": END_OF_TEXT})

    @staticmethod
    def safe_cut(text: str, start: int) -> int | None:
        """Anywhere."""
        return start

    learning_cut = safe_cut

    @classmethod
    def train(cls, texts: Iterable[str], settings: Byte) -> Self:
        """Nothing to learn; only look that there is a text at all.

        Raises:
            DataError: There is no text.
        """
        if not any(texts):
            raise DataError(
                f"The training part holds no text for a {settings.kind!r} tokenizer; give prepare.source more text, "
                "or prepare.val_fraction and prepare.test_fraction less of it."
            )
        return cls()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: The folder does not hold a byte tokenizer.
        """
        content_of_kind(folder, KIND)
        return cls()
