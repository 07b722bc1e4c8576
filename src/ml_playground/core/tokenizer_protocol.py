"""What every tokenizer offers, whatever its kind."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint16 | np.uint32]

SPELLINGS: Mapping[str, str] = {"bos": "<|startoftext|>", "eos": "<|endoftext|>", "pad": "<|pad|>"}
"""What templates write for special ids of tokenizers that spell none: only these and the template ever see it."""


def ids_dtype(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """The smaller unsigned type that holds every id."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


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


@runtime_checkable
class OpensTexts(Protocol):
    """What a tokenizer may offer that puts marks of its own before a text that stands alone."""

    @property
    def opening_ids(self) -> Sequence[int]:
        """Those ids: a prompt begins with them; texts in a stream, and what follows a prompt, do not."""
        ...


class Spans(NamedTuple):
    """The ids of a text, and which of its characters each stands for; those of a character in several tokens are alike."""

    ids: Ids
    """(tokens,)"""
    starts: NDArray[np.int64]
    """Characters before each, (tokens,); ascending."""
    ends: NDArray[np.int64]
    """Characters up to the end of each, (tokens,); ascending."""

    def before(self, at: int) -> int:
        """How many tokens end at a place or before it."""
        return int(np.searchsorted(self.ends, at, side="right"))

    def is_inside(self, at: int) -> bool:
        """Whether a place lies within a token."""
        first = self.before(at)
        return first < len(self.ids) and bool(self.starts[first] < at)


@runtime_checkable
class MarkedTokenizer(Tokenizer, Protocol):
    """A tokenizer that finds special tokens in what a chat template wrote."""

    @property
    def marks(self) -> Mapping[str, int]:
        """Tokens that are never cut, special ones and others, by how they are spelled."""
        ...

    @property
    def control(self) -> Sequence[str]:
        """Those among them that steer: what a message says in these words is text."""
        ...

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that it brings; none where it has none."""
        ...

    def encode_marked(self, texts: Sequence[str]) -> list[Spans]:
        """Ids of each text with special tokens found in it and none added, as templates are encoded in inference."""
        ...


def marks_of(tokenizer: Tokenizer) -> Mapping[str, int]:
    """Special tokens by how templates spell them, and other tokens that are never cut."""
    if isinstance(tokenizer, MarkedTokenizer):
        return tokenizer.marks
    found = {SPELLINGS[name]: getattr(tokenizer.specials, name) for name in SPELLINGS}
    return {text: index for text, index in found.items() if index is not None}


class BulkTokenizer(Tokenizer, Protocol):
    """What preparing a data set asks on top: arrays instead of lists, and where a long text may be cut."""

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, equal to what `encode` gives, without a Python object for each."""
        ...

    def safe_cut(self, text: str, start: int) -> int | None:
        """A position p >= start at which the text may be cut, whatever follows it: the ids of text[:p] and of the rest
        are the ids of the whole. None: no such place in sight; some tokenizers have none in any text.
        """
        ...


class TokenizerClass(Protocol):
    """What a tokenizer kind's class offers as an object (the `build` of the family)."""

    def train(self, texts: Iterable[str], settings: Any) -> BulkTokenizer:
        """Learn a vocabulary; `texts` is read once, each a part of the training text that ends at a learning cut.

        Raises:
            DataError: There is no text to learn from.
            ConfigError: A setting does not fit the text, or what it names cannot be used.
        """
        ...

    def learning_cut(self, text: str, start: int) -> int | None:
        """Where a training text may be cut before the vocabulary is known; as `safe_cut` of the instances."""
        ...

    def load(self, folder: Path) -> BulkTokenizer:
        """Read what `save` wrote.

        Raises:
            DataError: The folder does not hold a whole tokenizer of this kind.
        """
        ...


@runtime_checkable
class NamedFilesKind(TokenizerClass, Protocol):
    """A tokenizer kind whose settings may name files: what it is made of is not in the settings and the text alone."""

    def named_files(self, settings: Any) -> Sequence[Path]:
        """The files that `train` reads, in a fixed order; they decide what data set it is.

        Raises:
            DataError: They are missing.
        """
        ...


class VocabularyLearner(Protocol):
    """What a vocabulary is learnt from, gathered text by text; several processes may each gather a share."""

    def add(self, text: str) -> None:
        """Take in a part of the training text that ends at a learning cut."""
        ...

    def state(self) -> bytes:
        """All that was taken in, for another process."""
        ...

    def absorb(self, state: bytes) -> None:
        """Take in what another process gathered; in which order cannot be seen in the vocabulary."""
        ...


@runtime_checkable
class SharedKind(TokenizerClass, Protocol):
    """A tokenizer kind whose work is worth sharing: it costs more than sending text to another process and ids back."""

    def learner(self) -> VocabularyLearner:
        """An empty one."""
        ...

    def learnt(self, learner: Any, settings: Any) -> BulkTokenizer:
        """As `train`, from what a learner of this kind has taken in.

        Raises:
            DataError: There was no text.
        """
        ...
