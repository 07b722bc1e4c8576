"""MANIFEST.json of a checkpoint: names, sizes and sha256 of all other files, and a checksum of its own; written last."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.foreign_files import is_plain, read_at_most
from ml_playground.core.run_schema import complaint

FORMAT_VERSION = 1
"""Raised when an older reader would misunderstand a checkpoint."""

MANIFEST = "MANIFEST.json"


class Record(BaseModel):
    """Part of a file that only we write: nothing in it may be unknown or of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")


class FileRecord(Record):
    """Size and sha256 of a file."""

    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Manifest(Record):
    format_version: int
    files: dict[str, FileRecord]
    sha256: str
    """Of the two fields above, so that damage to this file is not taken for damage to another."""


class _Version(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    format_version: int


def manifest_text(files: Mapping[str, FileRecord]) -> str:
    """The one text of a manifest: equal files give equal bytes."""
    body = {"format_version": FORMAT_VERSION, "files": {name: files[name].model_dump() for name in sorted(files)}}
    return json.dumps(body | {"sha256": _sha256_of(body)}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def verify(path: Path) -> None:
    """Compare every byte of a checkpoint with its manifest.

    Raises:
        CheckpointError: It is missing or incomplete, or a file is missing, damaged or not in the manifest; names the file.
    """
    for name, record in checked_sizes(path).items():
        try:
            with (path / name).open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise damage(path, name, f"cannot be read ({error.strerror})") from error
        if found != record.sha256:
            raise damage(path, name, f"has sha256 {found[:12]}..., {MANIFEST} says {record.sha256[:12]}...")


def checked_sizes(path: Path) -> dict[str, FileRecord]:
    """The manifest's files, all of which are there with the right size, and no others.

    Raises:
        CheckpointError: As `verify`, but for content of the right size.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path} is no checkpoint: there is no such folder.")
    present = _sizes_under(path)
    listed = _read_manifest(path)
    for name, record in listed.items():
        if name not in present:
            raise damage(path, name, "is missing")
        if present[name] != record.size_bytes:
            raise damage(path, name, f"holds {present[name]} bytes, {MANIFEST} says {record.size_bytes}")
    for name in sorted(present.keys() - listed.keys() - {MANIFEST}):
        raise CheckpointError(f"{path} holds {name}, which is not part of the checkpoint; move it elsewhere.")
    return listed


def _read_manifest(path: Path) -> dict[str, FileRecord]:
    content = read_small(path, MANIFEST)
    try:
        version = _Version.model_validate_json(content).format_version
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{path} was written in format {version} ({MANIFEST}); this program reads format {FORMAT_VERSION}. "
                "Use the version of ml-playground that wrote it."
            )
        manifest = _Manifest.model_validate_json(content)
    except ValidationError as error:
        raise damage(path, MANIFEST, f"is not as it was written ({complaint(error)})") from error
    if content != manifest_text(manifest.files).encode():
        raise damage(path, MANIFEST, "is not as it was written")
    for name in manifest.files:
        if not is_plain(name):
            raise CheckpointError(
                f"{path} lists {name!r} in {MANIFEST}, which is no plain name inside of it; do not use it."
            )
    return manifest.files


def _sizes_under(path: Path) -> dict[str, int]:
    """Name -> size of every file under a folder; a link could lead out of it and is refused."""
    sizes: dict[str, int] = {}
    for parent, folders, names in os.walk(path):
        for name in [*folders, *names]:
            entry = Path(parent) / name
            inside = entry.relative_to(path).as_posix()
            if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
                raise CheckpointError(
                    f"{path} holds {inside}, which is a link or no file; a checkpoint holds files only."
                )
            if entry.is_file():
                sizes[inside] = entry.stat().st_size
    return sizes


def read_small(path: Path, name: str) -> bytes:
    """A small file of a checkpoint.

    Raises:
        CheckpointError: It cannot be read, or is far too large to be one of ours.
    """
    try:
        return read_at_most(path / name)
    except OSError as error:
        raise damage(path, name, f"cannot be read ({error.strerror})") from error


def damage(path: Path, name: str, what: str) -> CheckpointError:
    """The error for a damaged file."""
    return CheckpointError(
        f"Checkpoint {path} is damaged: {name} {what}. Delete this folder or restore it from a copy."
    )


def _sha256_of(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
