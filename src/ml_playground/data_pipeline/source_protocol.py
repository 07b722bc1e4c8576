"""What a source of text offers: its documents as a stream, and an account of what they were read from."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from pydantic import Field

from ml_playground.configuration.base import CountOrZero, Strict
from ml_playground.core.error_handling import DataError
from ml_playground.core.values import Document

SkipReason = Literal["empty", "not_utf8"]

AGAIN = " \u21bb"
"""In the id of a document that is given again, before how often: a split by hash takes no notice of what follows."""


class SourceFile(Strict):
    """A file whose text was used."""

    name: str
    """Path below the source's folder, or an address."""
    size_bytes: CountOrZero | None
    """None where a hash was given and the file was not needed."""
    sha256: str


class SkippedFile(Strict):
    """A file that was found and whose text was not used."""

    name: str
    reason: SkipReason
    size_bytes: CountOrZero | None = None
    """None: it was not noted yet when this data set was made."""
    at_byte: CountOrZero | None = None
    """The first byte that is no text."""


class Provenance(Strict):
    """From what a data set was made; equal `content` means equal text."""

    kind: str
    """The source's kind."""
    files: tuple[SourceFile, ...]
    """In the order in which they were read."""
    skipped: tuple[SkippedFile, ...] = ()
    facts: Mapping[str, str] = Field(default_factory=dict)
    """What else is worth knowing: an address, the version of Python."""

    @property
    def content(self) -> str:
        """sha256 (hex) over the names and bytes of all files in order."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.name}\n{file.sha256}\n".encode())
        return digest.hexdigest()


class Source(Protocol):
    """Text that can be read more than once."""

    def documents(self) -> Iterator[Document]:
        """All documents in a fixed order; neighbours with one id are pieces of one document, cut anywhere.

        Raises:
            DataError: Something is missing, unreadable, or no text.
        """
        ...

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of what `documents` reads.

        Raises:
            DataError: As for `documents`.
        """
        ...


class NamedFile(NamedTuple):
    """A file that a source reads as one document."""

    name: str
    """The document's id."""
    path: Path
    encoding: str


@runtime_checkable
class FileSource(Protocol):
    """A source whose documents are files on this machine, so that their bytes can be looked at."""

    def files(self) -> Sequence[NamedFile]:
        """The files of its documents, in the order of `documents`.

        Raises:
            DataError: As for `documents`.
        """
        ...


@runtime_checkable
class RefetchedSource(Protocol):
    """A source that keeps a copy of what it fetched, and may not know whether the copy is still what would be fetched."""

    def fetch_anew(self) -> None:
        """Do not use a copy from before this call, unless the settings prove it right."""
        ...


def changed_meanwhile(how: str) -> DataError:
    """The error for a source that is not the same in each of the passes over it."""
    return DataError(
        f"The source changed while it was being prepared: {how}. "
        "Nothing was written; run the command again when it stands still."
    )


def changes(old: Provenance, new: Provenance, at_most: int = 3) -> str:
    """What differs between two accounts, in words: `a.txt changed, b.txt is gone, 4 more`."""
    before = {file.name: file.sha256 for file in old.files}
    after = {file.name: file.sha256 for file in new.files}
    words = [
        f"{name} is gone" if name not in after else f"{name} changed"
        for name in before
        if after.get(name) != before[name]
    ]
    words += [f"{name} is new" for name in after if name not in before]
    if not words:
        return "its files stand in another order"
    more = len(words) - at_most
    return ", ".join(words[:at_most]) + (f", {more} more" if more > 0 else "")
