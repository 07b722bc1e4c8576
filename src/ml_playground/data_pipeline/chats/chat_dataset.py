"""Prepared chats: their tokens, each token's weight as a target, the chats themselves, and the tokenizer with its template."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ml_playground.configuration.base import Count
from ml_playground.core.chat_facts import NAME, TEMPLATE_NAME, message_of, read_chat_facts
from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import load_object
from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.chats.chat_ledger import ChatLedger, chat_imbalances
from ml_playground.data_pipeline.chats.looks import Lines, Weights
from ml_playground.data_pipeline.manifest import TOKENIZER_FOLDER, Manifest, Prepared, open_prepared
from ml_playground.data_pipeline.manifest_checks import Ids, Look, Starts, misfits, misplaced
from ml_playground.data_pipeline.storage.open_array import OpenArray
from ml_playground.data_pipeline.storage.token_file import INDEX_TYPE, WEIGHT_TYPE, TokenType, stored_type
from ml_playground.data_pipeline.text_dataset import TokenizerFacts

if TYPE_CHECKING:
    # Chats can be counted and trained on without jinja2.
    from ml_playground.core.chat_template import ChatTemplate

LOAD_TEMPLATE = "ml_playground.core.chat_template:ChatTemplate"


class ChatManifest(Manifest):
    """Of chats."""

    attached: ClassVar[str] = TOKENIZER_FOLDER
    unit: ClassVar[str] = "token"

    holds: Literal["chats"] = "chats"
    """Tells it from a text."""
    tokenizer: TokenizerFacts
    vocab_size: Count
    token_type: TokenType
    pairs: bool = False
    """Whether rows 2k and 2k + 1 are a better and a worse answer to the same prompt."""
    ledger: ChatLedger
    """Counts of each split among it."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Tokens of each split."""
        return {split: counts.tokens for split, counts in self.ledger.splits.items()}

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows of each split."""
        return {split: counts.rows for split, counts in self.ledger.splits.items()}

    @property
    def books(self) -> ChatLedger:
        """Where the chats went."""
        return self.ledger

    def expected_fingerprint(self) -> str:
        """Over tokens, weights, chats, vocabulary, tokenizer and template."""
        content = {
            "holds": self.holds,
            "files": {
                name: file.sha256
                for name, file in sorted(self.files.items())
                if "/" not in name or name == f"{TOKENIZER_FOLDER}/{TEMPLATE_NAME}"
            },
            "token_type": self.token_type,
            "vocab_size": self.vocab_size,
            "tokenizer": self.tokenizer.fingerprint,
            "pairs": self.pairs,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def contradictions(self) -> list[str]:
        """Sizes of files, ids beyond the vocabulary, books that do not balance."""
        found = [*misplaced(self.files, self.ledger.splits), *misfits(self.vocab_size, self.token_type)]
        return [*found, *self._contradictions(), *chat_imbalances(self.ledger)]

    def looks(self) -> Mapping[str, Look]:
        """Ids, weights, starts of rows, lines of chats."""
        looks: dict[str, Look] = {}
        for split, counts in self.ledger.splits.items():
            looks[f"{split}.tokens"] = Ids(self.vocab_size, self.token_type)
            looks[f"{split}.index"] = Starts(counts.tokens)
            looks[f"{split}.weights"] = Weights(counts.trained)
            looks[f"{split}.chats"] = Lines(counts.rows)
        return looks

    def check_losses(self, limit: float) -> None:
        """Refuse more than a share of the text lost unasked.

        Raises:
            DataError: More is.
        """
        self.ledger.check_losses(limit)

    def opened(self, folder: Path) -> "PreparedChats":
        """The data set in its folder."""
        return PreparedChats(folder, self)

    def _contradictions(self) -> Iterator[str]:
        item_bytes = stored_type(self.token_type).itemsize
        for split, counts in self.ledger.splits.items():
            for name, size_bytes in (
                (f"{split}.tokens", counts.tokens * item_bytes),
                (f"{split}.weights", counts.tokens * WEIGHT_TYPE.itemsize),
                (f"{split}.index", counts.rows * INDEX_TYPE.itemsize),
                (f"{split}.chats", None),
            ):
                account = self.files.get(name)
                if account is None:
                    yield f"files lacks {name}"
                elif size_bytes is not None and account.size_bytes != size_bytes:
                    yield (
                        f"{split} has {counts.tokens} tokens in {counts.rows} rows, so {name} would have {size_bytes} bytes, "
                        f"not {account.size_bytes}"
                    )
            if self.pairs and counts.rows % 2:
                yield f"{split} has {counts.rows} rows, which are no pairs"
        for name in (NAME, TEMPLATE_NAME):
            if f"{TOKENIZER_FOLDER}/{name}" not in self.files:
                yield f"files lacks {TOKENIZER_FOLDER}/{name}"


class ChatRows:
    """The rows of a split, mapped, not read: each a whole rendered chat."""

    def __init__(self, prepared: "PreparedChats", split: str) -> None:
        """Raises DataError: A file was written into since it was compared with the manifest."""
        manifest = prepared.manifest
        types: dict[str, np.dtype[Any]] = {
            "tokens": stored_type(manifest.token_type),
            "weights": WEIGHT_TYPE,
            "index": INDEX_TYPE,
        }
        self._files = {
            name: OpenArray(path, kind, manifest.files[path.name].sha256, prepared.before.get(path))
            for name, kind in types.items()
            for path in (prepared.folder / f"{split}.{name}",)
        }
        self.tokens: NDArray[np.uint16 | np.uint32] = self._files["tokens"].numbers
        """All of them, one row after the other: (tokens,)."""
        self.token_weights: NDArray[np.float32] = self._files["weights"].numbers
        """Of each token as a target: (tokens,)."""
        # Read once: 8 bytes for each row, and views need no second look at the file.
        self.starts: NDArray[np.int64] = self._files["index"].numbers.astype(np.int64)
        """Where each row begins: (rows,)."""
        self.lengths: NDArray[np.int64] = np.diff(self.starts, append=len(self.tokens))
        """Tokens of each row: (rows,)."""

    def __len__(self) -> int:
        return len(self.starts)

    def ids(self, row: int) -> NDArray[np.uint16 | np.uint32]:
        """Of a row, a view: (tokens of the row,)."""
        return self.tokens[self.starts[row] : self.starts[row] + self.lengths[row]]

    def weights(self, row: int) -> NDArray[np.float32]:
        """Of each token of a row as a target, a view: (tokens of the row,); 0 is read and never a target."""
        return self.token_weights[self.starts[row] : self.starts[row] + self.lengths[row]]

    def check(self) -> None:
        """One question to the file system for each file, to be asked before numbers are read and after.

        Raises:
            DataError: One was written into.
        """
        for file in self._files.values():
            file.check()


@dataclass(frozen=True, slots=True)
class PreparedChats(Prepared):
    """Prepared chats on disk."""

    manifest: ChatManifest
    before: Mapping[Path, os.stat_result] = field(default_factory=dict[Path, os.stat_result])
    """States of its files before they were compared with the manifest."""

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer lies, with its template and chat.json."""
        return self.folder / TOKENIZER_FOLDER

    @property
    def template(self) -> "ChatTemplate":
        """What the chats were rendered with, the day among it.

        Raises:
            ConfigError: jinja2 is not installed.
        """
        kind: type[ChatTemplate] = load_object(LOAD_TEMPLATE)
        return kind.load(self.tokenizer_folder, today=read_chat_facts(self.tokenizer_folder).today)

    def rows(self, split: str) -> ChatRows:
        """The rows of a split.

        Raises:
            DataError: There is no such split.
        """
        self.check_split(split)
        return ChatRows(self, split)

    def chats(self, split: str) -> Iterator[ChatExample]:
        """What each row says, in the order of the rows: after the profile, with the system prompt.

        Raises:
            DataError: There is no such split.
        """
        self.check_split(split)
        with (self.folder / f"{split}.chats").open(encoding="utf-8") as lines:
            for line in lines:
                table: dict[str, Any] = json.loads(line)
                messages = tuple(_message(message) for message in table["messages"])
                yield ChatExample(table["id"], messages, table.get("facts", {}))


def _message(table: dict[str, Any]) -> Message:
    plain = message_of(table)
    return Message(plain.role, plain.content, table.get("weight"), plain.extra)


def open_chats(folder: Path) -> PreparedChats:
    """Prepared chats, each file compared with its manifest.

    Raises:
        DataError: They are missing or damaged, or are no chats.
    """
    before = {path: path.stat() for path in folder.glob("*") if path.is_file() and not path.is_symlink()}
    prepared = as_chats(open_prepared(folder))
    return PreparedChats(prepared.folder, prepared.manifest, before=before)


def as_chats(prepared: Prepared) -> PreparedChats:
    """The same, known to be chats.

    Raises:
        DataError: They are none.
    """
    if not isinstance(prepared, PreparedChats):
        raise DataError(f"{prepared.folder} holds no chats; choose a kind of [data] that reads what it holds.")
    return prepared
