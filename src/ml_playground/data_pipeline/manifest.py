"""`dataset.json`: what a prepared data set holds, and the check that it still does."""

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, Self, cast

from pydantic import Field, ValidationError
from pydantic_core import from_json

from ml_playground.configuration.base import Strict
from ml_playground.core.error_handling import DataError
from ml_playground.core.foreign_files import content_of, read_at_most
from ml_playground.core.registry import load_object
from ml_playground.data_pipeline.ledger import SourceLedger
from ml_playground.data_pipeline.manifest_checks import Look, strangers
from ml_playground.data_pipeline.source_protocol import Provenance, SourceFile
from ml_playground.data_pipeline.storage.token_file import FileAccount

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


KINDS: Mapping[str, str] = {
    "text": "ml_playground.data_pipeline.text_dataset:TextManifest",
    "images": "ml_playground.data_pipeline.image_dataset:ImageManifest",
    "chats": "ml_playground.data_pipeline.chats.chat_dataset:ChatManifest",
}
"""What a data set holds -> how it is described; a manifest that does not say what it holds is of a text."""


class Manifest(Strict):
    """What every prepared data set says of itself, so that it can be checked; what it holds adds the rest."""

    attached: ClassVar[str]
    """The folder below it that goes into every checkpoint."""
    unit: ClassVar[str]
    """What is counted: token or image."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    created_at: datetime
    prepare: Mapping[str, Any]
    """The settings that made it."""
    source: Provenance
    tokenizer_files: tuple[SourceFile, ...] = ()
    """What the tokenizer was made of beside the text, where its settings name files."""
    files: Mapping[str, FileAccount]
    """Every file but this one, by its path below the folder."""
    fingerprint: str = Field(default="")
    """sha256 over what a model sees. Equal fingerprints, equal training."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(self.sizes)

    @property
    @abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """How many tokens, or images, each split has."""

    @property
    @abstractmethod
    def books(self) -> SourceLedger:
        """Where everything of the source went."""

    @abstractmethod
    def expected_fingerprint(self) -> str:
        """What `fingerprint` must be."""

    @abstractmethod
    def contradictions(self) -> list[str]:
        """What cannot be, in words; none of the files is opened."""

    @abstractmethod
    def looks(self) -> Mapping[str, Look]:
        """What looks at the content of files while they are hashed, by their names."""

    @abstractmethod
    def check_losses(self, limit: float) -> None:
        """Refuse more than a share of the source lost unasked.

        Raises:
            DataError: More is.
        """

    @abstractmethod
    def opened(self, folder: Path) -> "Prepared":
        """The data set in its folder."""

    def sealed(self) -> Self:
        """The same with its fingerprint."""
        return self.model_copy(update={"fingerprint": self.expected_fingerprint()})


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

    def check_split(self, split: str) -> None:
        """Refuse a split that there is not.

        Raises:
            DataError: It names those that there are.
        """
        if split not in self.manifest.splits:
            hint = "; to have one, prepare and train with --set prepare.test_fraction=0.1" if split == "test" else ""
            raise DataError(f"{self.folder} has no split {split!r} (it has: {', '.join(self.manifest.splits)}){hint}.")


def account_of(path: Path, look: Look | None = None) -> FileAccount:
    """Size and hash of a file; `look` is shown its bytes on the way, whole numbers at a time.

    Raises:
        OSError: It cannot be read.
    """

    def blocks(stream: BinaryIO) -> Iterator[bytes]:
        while block := stream.read(_BLOCK_BYTES):
            yield block
            if look is not None:
                look(block)

    with path.open("rb") as stream:
        return FileAccount(**content_of(blocks(stream))._asdict())


def open_prepared(folder: Path) -> Prepared:
    """Open a prepared data set; every file is compared with its size and sha256 first (about a gigabyte a second).

    A process that opens it again compares only what was written since.

    Raises:
        DataError: It is missing, incomplete, or changed since it was written; names the file.
    """
    manifest = read_manifest(folder)
    if found := strangers(folder, manifest.files, manifest.attached):
        raise DataError(f"{folder} holds what is not part of the data set: {'; '.join(found[:3])}. {ANEW}.")
    looks = manifest.looks()
    for name, expected in manifest.files.items():
        _check_file(folder / name, expected, looks.get(name))
    return manifest.opened(folder)


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
        manifest = _described_by(text).model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise DataError(f"{path} is damaged: {where}: {first['msg']}. {ANEW}.") from error
    if manifest.fingerprint != manifest.expected_fingerprint():
        raise DataError(
            f"{path} contradicts itself: fingerprint is {manifest.fingerprint}, its entries give "
            f"{manifest.expected_fingerprint()}; it was edited, or mixed from two data sets. {ANEW}."
        )
    if found := manifest.contradictions():
        raise DataError(f"{path} contradicts itself: {'; '.join(found[:5])}; it was edited. {ANEW}.")
    return manifest


def _described_by(text: bytes) -> type[Manifest]:
    """The class that reads a manifest, by what it holds; what is no JSON is left for it to refuse."""
    try:
        table: Any = from_json(text)
    except ValueError:
        table = None
    holds: Any = cast(dict[str, Any], table).get("holds", "text") if isinstance(table, dict) else "text"
    return load_object(KINDS[holds] if isinstance(holds, str) and holds in KINDS else KINDS["text"])


def _check_file(path: Path, expected: FileAccount, look: Look | None) -> None:
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
