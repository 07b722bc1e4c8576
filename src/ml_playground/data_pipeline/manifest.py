"""`dataset.json`: what a prepared data set holds, and the check that it still does."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from ml_playground.configuration.base import Count, Strict
from ml_playground.core.error_handling import DataError
from ml_playground.core.foreign_files import read_at_most
from ml_playground.data_pipeline.ledger import Ledger, imbalances
from ml_playground.data_pipeline.manifest_checks import Ids, Starts, contradictions, strangers
from ml_playground.data_pipeline.source_protocol import Provenance
from ml_playground.data_pipeline.storage.token_file import FileAccount, TokenType, read_index, read_tokens

MANIFEST_NAME = "dataset.json"
TOKENIZER_FOLDER = "tokenizer"
SCHEMA_VERSION = 2
"""1 did not count losses and copies: such data sets are used as they are."""
ANEW = "Prepare it anew with `mlp prepare EXPERIMENT --fresh` (the old folder is kept beside the new one)"

_BLOCK_BYTES = 1 << 20

# Two million files of a source, each with its name and hash.
_MOST_BYTES = 512 << 20

# File systems note the time of a change to a tick of their clock, two seconds at worst: a younger file may change unseen.
_AT_REST_NS = 2_000_000_000

_compared: set[tuple[str, str, int, int, int, int]] = set()
"""Files that this process has compared with their hash: path, hash, and inode, size and times of the last change then.

Windows gives the time of the making as that of the last change of the inode; there the time of the last writing tells.
"""


Look = Callable[[bytes], None]


class TokenizerFacts(Strict):
    """Which tokenizer made the ids."""

    kind: str
    fingerprint: str


class Manifest(Strict):
    """A prepared data set, described so that it can be checked."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    created_at: datetime
    prepare: Mapping[str, Any]
    """The settings that made it."""
    source: Provenance
    tokenizer: TokenizerFacts
    vocab_size: Count
    token_type: TokenType
    ledger: Ledger
    """Counts of each split among it."""
    files: Mapping[str, FileAccount]
    """Every file but this one, by its path below the folder."""
    fingerprint: str = Field(default="")
    """sha256 over what a model sees: token files, vocabulary, tokenizer. Equal fingerprints, equal training."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(self.ledger.splits)

    def expected_fingerprint(self) -> str:
        """What `fingerprint` must be."""
        content = {
            "tokens": {name: file.sha256 for name, file in sorted(self.files.items()) if "/" not in name},
            "token_type": self.token_type,
            "vocab_size": self.vocab_size,
            "tokenizer": self.tokenizer.fingerprint,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared data set on disk, checked against its manifest."""

    folder: Path
    manifest: Manifest
    reused: bool = False
    """It was there already."""
    set_aside: Path | None = None
    """Where the data set went that stood here before."""

    @property
    def fingerprint(self) -> str:
        """sha256 over the content."""
        return self.manifest.fingerprint

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer lies."""
        return self.folder / TOKENIZER_FOLDER

    def tokens(self, split: str) -> NDArray[np.uint16 | np.uint32]:
        """The ids of a split, memory-mapped: (tokens,).

        Raises:
            DataError: There is no such split.
        """
        self._check_split(split)
        return read_tokens(self.folder, split, self.manifest.token_type)

    def document_starts(self, split: str) -> NDArray[np.uint64]:
        """Where each document of a split starts, in tokens, memory-mapped: (documents,).

        Raises:
            DataError: There is no such split.
        """
        self._check_split(split)
        return read_index(self.folder, split)

    def _check_split(self, split: str) -> None:
        if split not in self.manifest.splits:
            hint = "; set prepare.test_fraction above 0 to have one" if split == "test" else ""
            raise DataError(f"{self.folder} has no split {split!r} (it has: {', '.join(self.manifest.splits)}){hint}.")


def account_of(path: Path, look: Look | None = None) -> FileAccount:
    """Size and hash of a file; `look` is shown its bytes on the way, whole numbers at a time.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            size_bytes += len(block)
            if look is not None:
                look(block)
    return FileAccount(size_bytes=size_bytes, sha256=digest.hexdigest())


def open_prepared(folder: Path) -> Prepared:
    """Open a prepared data set; every file is compared with its size and sha256 first (about a gigabyte a second).

    A process that opens it again compares only what was written since.

    Raises:
        DataError: It is missing, incomplete, or changed since it was written; names the file.
    """
    manifest = read_manifest(folder)
    if found := strangers(folder, manifest.files, TOKENIZER_FOLDER):
        raise DataError(f"{folder} holds what is not part of the data set: {'; '.join(found[:3])}. {ANEW}.")
    looks: dict[str, Ids | Starts] = {}
    for split, counts in manifest.ledger.splits.items():
        looks[f"{split}.tokens"] = Ids(manifest.vocab_size, manifest.token_type)
        looks[f"{split}.index"] = Starts(counts.tokens)
    for name, expected in manifest.files.items():
        _check_file(folder / name, expected, looks.get(name))
    return Prepared(folder, manifest)


def read_manifest(folder: Path) -> Manifest:
    """What a data set says of itself; its files are not opened.

    Raises:
        DataError: The manifest is missing, damaged, or not the one that was written.
    """
    path = folder / MANIFEST_NAME
    try:
        text = read_at_most(path, _MOST_BYTES)
    except FileNotFoundError as error:
        what = (
            f"{folder} is no whole data set: {MANIFEST_NAME} is missing" if folder.is_dir() else f"{folder} is missing"
        )
        raise DataError(f"{what}; run `mlp prepare EXPERIMENT`, with --fresh if the folder is there.") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise DataError(f"{path} is damaged: {where}: {first['msg']}. {ANEW}.") from error
    if manifest.fingerprint != manifest.expected_fingerprint():
        raise DataError(
            f"{path} contradicts itself: fingerprint is {manifest.fingerprint}, its entries give "
            f"{manifest.expected_fingerprint()}; it was edited, or mixed from two data sets. {ANEW}."
        )
    splits = manifest.ledger.splits
    found = contradictions(manifest.files, splits, manifest.vocab_size, manifest.token_type) + imbalances(
        manifest.ledger
    )
    if found:
        raise DataError(f"{path} contradicts itself: {'; '.join(found[:5])}; it was edited. {ANEW}.")
    return manifest


def _check_file(path: Path, expected: FileAccount, look: Ids | Starts | None) -> None:
    try:
        # The size alone finds most damage before a gigabyte is read.
        state = path.stat()
        size_bytes = state.st_size
        known = (str(path), expected.sha256, state.st_ino, size_bytes, state.st_ctime_ns, state.st_mtime_ns)
        if known in _compared:
            return
        got = account_of(path, look) if size_bytes == expected.size_bytes else None
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing, though {MANIFEST_NAME} names it. {ANEW}.") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if got is None:
        raise DataError(
            f"{path} has {size_bytes} bytes, {MANIFEST_NAME} says {expected.size_bytes}: it was cut or overwritten. {ANEW}."
        )
    if got.sha256 != expected.sha256:
        raise DataError(
            f"{path} has changed since it was written: its sha256 is {got.sha256}, {MANIFEST_NAME} says "
            f"{expected.sha256}. {ANEW}."
        )
    if look is not None and look.problem:
        raise DataError(f"{path} does not fit {MANIFEST_NAME}: {look.problem}. {ANEW}.")
    if time.time_ns() - max(state.st_ctime_ns, state.st_mtime_ns) > _AT_REST_NS:
        _compared.add(known)


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read: {error.strerror or error}. {ANEW}.")
