"""What every tokenizer offers, whatever its kind."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable


@dataclass(frozen=True, slots=True)
class Specials:
    """Ids of special tokens; None where the tokenizer has none."""

    bos: int | None = None
    eos: int | None = None
    pad: int | None = None
    unknown: int | None = None


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def vocab_size(self) -> int:
        """Number of ids; every id is below it."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over vocabulary and rules, in order."""
        ...

    @property
    def specials(self) -> Specials:
        """The special ids."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; bytes that are no valid UTF-8 become U+FFFD."""
        ...

    def token_bytes(self) -> Sequence[int]:
        """UTF-8 bytes each id stands for, (V,); 0 for special ids. For bits per byte."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything `load` needs into an existing folder, `tokenizer.json` with the kind among it."""
        ...


class TokenizerClass(Protocol):
    """What a tokenizer kind's class offers beside its instances (the `build` of the family)."""

    @classmethod
    def train(cls, texts: Iterable[str], settings: Any) -> Self:
        """Learn a vocabulary; `texts` is read once."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: The folder does not hold a whole tokenizer of this kind.
        """
        ...
