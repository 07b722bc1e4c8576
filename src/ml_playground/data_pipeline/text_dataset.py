"""A prepared text: token files, the index of its documents, and the tokenizer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ml_playground.configuration.base import Count, Strict
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.ledger import Ledger, imbalances
from ml_playground.data_pipeline.loss_limit import check_ledger
from ml_playground.data_pipeline.manifest import TOKENIZER_FOLDER, Manifest, Prepared, open_prepared
from ml_playground.data_pipeline.manifest_checks import Ids, Look, Starts, contradictions
from ml_playground.data_pipeline.storage.token_file import TokenType, read_index, read_tokens


class TokenizerFacts(Strict):
    """Which tokenizer made the ids."""

    kind: str
    fingerprint: str


class TextManifest(Manifest):
    """Of a text."""

    attached: ClassVar[str] = TOKENIZER_FOLDER
    unit: ClassVar[str] = "token"

    tokenizer: TokenizerFacts
    vocab_size: Count
    token_type: TokenType
    ledger: Ledger
    """Counts of each split among it."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Tokens of each split."""
        return {split: counts.tokens for split, counts in self.ledger.splits.items()}

    @property
    def books(self) -> Ledger:
        """Where the text went."""
        return self.ledger

    def expected_fingerprint(self) -> str:
        """Over token files, vocabulary, tokenizer."""
        content = {
            "tokens": {name: file.sha256 for name, file in sorted(self.files.items()) if "/" not in name},
            "token_type": self.token_type,
            "vocab_size": self.vocab_size,
            "tokenizer": self.tokenizer.fingerprint,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def contradictions(self) -> list[str]:
        """Sizes of files, ids beyond the vocabulary, books that do not balance."""
        return contradictions(self.files, self.ledger.splits, self.vocab_size, self.token_type) + imbalances(
            self.ledger
        )

    def looks(self) -> Mapping[str, Look]:
        """Ids and starts of documents."""
        looks: dict[str, Look] = {}
        for split, tokens in self.sizes.items():
            looks[f"{split}.tokens"] = Ids(self.vocab_size, self.token_type)
            looks[f"{split}.index"] = Starts(tokens)
        return looks

    def check_losses(self, limit: float) -> None:
        """Refuse more than a share of the text lost unasked.

        Raises:
            DataError: More is.
        """
        check_ledger(self.ledger, limit, self.prepare.get("split_by", ""))

    def opened(self, folder: Path) -> "PreparedText":
        """The data set in its folder."""
        return PreparedText(folder, self)


@dataclass(frozen=True, slots=True)
class PreparedText(Prepared):
    """A prepared text on disk."""

    manifest: TextManifest

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer lies."""
        return self.folder / TOKENIZER_FOLDER

    def tokens(self, split: str) -> NDArray[np.uint16 | np.uint32]:
        """The ids of a split, memory-mapped: (tokens,).

        Raises:
            DataError: There is no such split.
        """
        self.check_split(split)
        return read_tokens(self.folder, split, self.manifest.token_type)

    def document_starts(self, split: str) -> NDArray[np.uint64]:
        """Where each document of a split starts, in tokens, memory-mapped: (documents,).

        Raises:
            DataError: There is no such split.
        """
        self.check_split(split)
        return read_index(self.folder, split)


def open_text(folder: Path) -> PreparedText:
    """A prepared text, each file compared with its manifest.

    Raises:
        DataError: It is missing or damaged, or holds no text.
    """
    return as_text(open_prepared(folder))


def as_text(prepared: Prepared) -> PreparedText:
    """The same, known to be a text.

    Raises:
        DataError: It is none.
    """
    if not isinstance(prepared, PreparedText):
        raise DataError(f"{prepared.folder} holds no text; choose a kind of [data] that reads what it holds.")
    return prepared
