"""What is checked: files as they lie on the disk, or the documents of a source, as streams of UTF-8."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.source_protocol import AGAIN, NamedFile, Source
from ml_playground.data_pipeline.sources.text_pieces import blocks, is_packed, text_pieces

_REPETITION = re.compile(rf"{AGAIN}\d+$")


@dataclass(frozen=True, slots=True)
class Input:
    """A document, or a file of rows."""

    name: str
    """A path as it was given, or a document's id."""
    blocks: Callable[[], Iterator[bytes]]
    """Its bytes, some at a time.

    Raises:
        DataError: While it is read: it is missing, may not be read, or the source refuses it.
    """
    path: Path | None = None
    """Where exactly these bytes lie, if they lie in a file."""
    held_out: bool = False
    """Whether it is validated on rather than trained on."""
    size_bytes: int = 0
    """As far as that is known."""


def file_input(path: Path, *, held_out: bool = False) -> Input:
    """A file that was named.

    Raises:
        DataError: There is no such file.
    """
    # Unlike pathlib's, these do not raise for what no file system takes as a name.
    if not os.path.isfile(path):  # noqa: PTH113
        what = "is a folder" if os.path.isdir(path) else "does not exist"  # noqa: PTH112
        raise DataError(
            f"{path} {what}; name files (.txt, or .jsonl with a row a line; of a folder FOLDER/*), an experiment, or its "
            "folder with a config.toml."
        )
    return Input(str(path), lambda: blocks(path), _as_it_lies(path), held_out, path.stat().st_size)


def named_input(file: NamedFile) -> Input:
    """A file of a source; one that is not in UTF-8 is read as the source reads it."""
    path, encoding = file.path, file.encoding
    if encoding.lower().replace("_", "-") in {"utf-8", "utf8"}:
        return Input(file.name, lambda: blocks(path), _as_it_lies(path), size_bytes=path.stat().st_size)
    return Input(
        file.name, lambda: (text.encode() for text in text_pieces(path, encoding)), size_bytes=path.stat().st_size
    )


def _as_it_lies(path: Path) -> Path | None:
    """The file, unless it is packed: then no place in it is one in the text."""
    return None if is_packed(path) else path


def document_inputs(source: Source) -> Iterator[Input]:
    """The documents of a source that reads no files; each is to be read before the next one is asked for.

    Once each: that a mixture gives some again was asked for, and is no fault of the text.
    """
    for name, pieces in groupby(source.documents(), key=lambda document: document.id):
        if _REPETITION.search(name):
            continue
        yield Input(name, _encoded(piece.text for piece in pieces))


def _encoded(texts: Iterable[str]) -> Callable[[], Iterator[bytes]]:
    return lambda: (text.encode("utf-8", "surrogatepass") for text in texts)
