"""`tokenizer.json`: what a tokenizer is made of, with its kind; one JSON object, read back with checks."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import DataError
from ml_playground.core.foreign_files import is_plain, json_table, read_at_most

FILE_NAME = "tokenizer.json"
SCHEMA_VERSION = 1

# A million tokens and their merges, each letter beyond ASCII written as six.
MOST_BYTES = 256 << 20


def write_content(folder: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write `tokenizer.json` into an existing folder, complete or not at all.

    Raises:
        StorageError: The folder cannot be written.
    """
    # Escaping everything beyond ASCII keeps lone surrogates, which a char vocabulary may hold and UTF-8 cannot.
    text = json.dumps({"kind": kind, "schema_version": SCHEMA_VERSION, **content}, ensure_ascii=True, indent=0)
    write_file(folder / FILE_NAME, text + "\n")


def read_content(folder: Path) -> dict[str, Any]:
    """The object in `tokenizer.json`.

    Raises:
        DataError: The file is missing, is no JSON object, or was written by a newer version.
    """
    path = folder / FILE_NAME
    try:
        fields = json_table(read_at_most(path, MOST_BYTES))
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no tokenizer: {FILE_NAME} is missing; prepare the data again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise damaged(folder, str(error)) from error
    version = fields.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema_version {version!r:.60}, but this version reads {SCHEMA_VERSION}; "
            "use the version of ml-playground that wrote it, or prepare the data again."
        )
    return fields


def content_of_kind(folder: Path, kind: str) -> dict[str, Any]:
    """As `read_content`, for a loader that knows what kind it must find.

    Raises:
        DataError: The file is missing, damaged, or holds another kind.
    """
    content = read_content(folder)
    if content.get("kind") != kind:
        raise DataError(f"{folder / FILE_NAME} holds a tokenizer of kind {content.get('kind')!r:.60}, not {kind!r}.")
    return content


def damaged(folder: Path, why: str) -> DataError:
    """The error for a `tokenizer.json` that is there but not whole."""
    return DataError(f"{folder / FILE_NAME} is damaged: {why}; restore it, or prepare the data again.")


def strings(folder: Path, content: Mapping[str, Any], key: str) -> list[str]:
    """The list of distinct texts under a key.

    Raises:
        DataError: There is none, it holds something else, or a text occurs twice.
    """
    value: Any = content.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in cast(list[Any], value)):
        raise damaged(folder, f"{key!r} is not a list of texts")
    texts = cast(list[str], value)
    if len(set(texts)) != len(texts):
        raise damaged(folder, f"{key!r} names a text twice")
    return texts


def fingerprint_of(kind: str, content: Mapping[str, Any]) -> str:
    """sha256 (hex) over kind, vocabulary and rules, in order."""
    text = json.dumps({"kind": kind, **content}, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_files(folder: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """Write files beside `tokenizer.json`, each complete or not at all; their sha256 (hex), for the content.

    Raises:
        StorageError: The folder cannot be written.
    """
    for name, content in files.items():
        write_file(folder / name, content)
    return hashes_of(files)


def hashes_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """sha256 (hex) of each file."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def read_files(folder: Path, hashes: Any) -> dict[str, bytes]:
    """What `write_files` wrote.

    Raises:
        DataError: Nothing plain is named, or a file is missing, unreadable, or not what was written.
    """
    if not isinstance(hashes, dict):
        raise damaged(folder, "'files' does not name files with their hashes")
    files: dict[str, bytes] = {}
    for name, expected in cast(dict[str, Any], hashes).items():
        if not is_plain(name):
            raise damaged(folder, f"{name!r:.60} among 'files' is no name of a file within the folder")
        try:
            files[name] = read_at_most(folder / name, MOST_BYTES)
        except OSError as error:
            raise damaged(folder, f"{name} cannot be read ({error.strerror or error})") from error
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise damaged(folder, f"{name} is not the file that belongs to it")
    return files
