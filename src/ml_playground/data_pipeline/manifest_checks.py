"""Whether a manifest can be the one of a data set: nothing in it leads out of the folder, or promises what is not there.

The sha256 of a file tells damage from what was written; it does not tell who wrote it.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from ml_playground.core.foreign_files import is_plain
from ml_playground.data_pipeline.ledger import SplitCounts
from ml_playground.data_pipeline.storage.array_file import LABEL_TYPE
from ml_playground.data_pipeline.storage.token_file import INDEX_TYPE, FileAccount, TokenType, stored_type, token_type

SPLITS = ("train", "val", "test")

LARGEST_VOCABULARY = 1 << 32
"""Ids have at most 32 bits."""


class Look(Protocol):
    """Looks at a file while it is hashed."""

    @property
    def problem(self) -> str:
        """The first thing that cannot be, in words; empty where there is none."""
        ...

    def __call__(self, block: bytes) -> None:
        """The next bytes, whole numbers."""
        ...


def misplaced(files: Mapping[str, FileAccount], splits: Collection[str]) -> list[str]:
    """Files that would lie outside of the folder, and splits that there are not, in words."""
    found = [
        f"files names {name!r:.80}, which is no plain name inside the folder" for name in files if not is_plain(name)
    ]
    found += [f"ledger.splits has {name!r:.80} (allowed: {', '.join(SPLITS)})" for name in splits if name not in SPLITS]
    return found + [f"ledger.splits lacks {name}" for name in ("train", "val") if name not in splits]


def contradictions(
    files: Mapping[str, FileAccount], splits: Mapping[str, SplitCounts], vocab_size: int, stored_as: TokenType
) -> list[str]:
    """What cannot be, in words; none of the files is opened.

    Args:
        files: As the manifest lists them.
        splits: Their counts.
        vocab_size: Ids there are.
        stored_as: The type of the ids.
    """
    found = [*misplaced(files, splits), *misfits(vocab_size, stored_as)]
    for split, counts in splits.items():
        found += _sizes(split, counts, files, stored_type(stored_as).itemsize)
    return found


def misfits(vocab_size: int, stored_as: TokenType) -> Iterator[str]:
    """How a vocabulary and the type of its ids do not go together, in words."""
    if vocab_size > LARGEST_VOCABULARY:
        yield f"vocab_size is {vocab_size}, more than 32 bits can number"
    elif stored_as != token_type(vocab_size):
        yield f"token_type is {stored_as}, a vocabulary of {vocab_size} has {token_type(vocab_size)}"


def _sizes(split: str, counts: SplitCounts, files: Mapping[str, FileAccount], id_bytes: int) -> Iterator[str]:
    tokens, index = files.get(f"{split}.tokens"), files.get(f"{split}.index")
    if tokens is None or index is None:
        yield f"files lacks {split}.tokens or {split}.index"
    elif tokens.size_bytes != counts.tokens * id_bytes:
        yield f"{split} has {counts.tokens} tokens of {id_bytes} bytes, {split}.tokens {tokens.size_bytes} bytes"
    elif index.size_bytes % INDEX_TYPE.itemsize:
        yield f"{split}.index has {index.size_bytes} bytes, which are no whole numbers of {INDEX_TYPE.itemsize}"


def strangers(folder: Path, files: Mapping[str, FileAccount], attached: str) -> list[str]:
    """What lies in the folder and must not, in words: links and pipes, and what nobody listed among the attached files.

    What is attached is copied into every checkpoint: through a link any file of this machine would go out with them.
    """
    found: list[str] = []
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            entry = Path(parent) / name
            inside = entry.relative_to(folder).as_posix()
            if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
                found.append(f"{inside!r:.80} is a link or no file; a data set holds files only")
            elif entry.is_file() and inside.startswith(f"{attached}/") and inside not in files:
                found.append(f"{inside!r:.80} is not part of it; move it elsewhere")
    return sorted(found)


class Ids:
    """Looks at the ids of a split as they are read: each must be one of the vocabulary."""

    def __init__(self, vocab_size: int, stored_as: TokenType) -> None:
        self.problem = ""
        """The first id beyond the vocabulary, in words; empty where there is none."""
        self._vocab_size = vocab_size
        self._type = stored_type(stored_as)
        self._seen = 0

    def __call__(self, block: bytes) -> None:
        """The next bytes, whole ids."""
        ids = np.frombuffer(block, self._type)
        if not self.problem and ids.max() >= self._vocab_size:
            place = int(np.argmax(ids >= self._vocab_size))
            where = f"token {self._seen + place} has id {ids[place]}"
            self.problem = f"{where}, the vocabulary ends at {self._vocab_size - 1}"
        self._seen += len(ids)


class Starts:
    """Looks at the index of a split as it is read: no document starts before the one before it, or beyond the tokens."""

    def __init__(self, tokens: int) -> None:
        self.problem = ""
        """The first document that starts nowhere, in words; empty where there is none."""
        self._tokens = tokens
        self._seen = 0
        self._last: np.uint64 = np.uint64(0)

    def __call__(self, block: bytes) -> None:
        """The next bytes, whole numbers of the index."""
        starts = np.frombuffer(block, INDEX_TYPE)
        wrong = (starts > self._tokens) | (starts < np.concatenate(([self._last], starts[:-1])))
        if not self.problem and wrong.any():
            place = int(np.argmax(wrong))
            where = f"document {self._seen + place} starts at token {starts[place]}"
            self.problem = f"{where} of {self._tokens}, or before the one before it"
        self._seen += len(starts)
        self._last = starts[-1]


class Labels:
    """Looks at the labels of a split as they are read: each must be a class."""

    def __init__(self, classes: int) -> None:
        self.problem = ""
        """The first label beyond the classes, in words; empty where there is none."""
        self._classes = classes
        self._seen = 0

    def __call__(self, block: bytes) -> None:
        """The next bytes, whole labels."""
        labels = np.frombuffer(block, LABEL_TYPE)
        if not self.problem and labels.max() >= self._classes:
            place = int(np.argmax(labels >= self._classes))
            where = f"image {self._seen + place} has label {labels[place]}"
            self.problem = f"{where}, the classes end at {self._classes - 1}"
        self._seen += len(labels)
