"""A manifest over whatever lies in a folder, as whoever made the folder could write it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ml_playground.core.checkpoint_manifest import FileRecord, manifest_text


def seal(path: Path, more: Mapping[str, bytes] | None = None) -> Path:
    """Make a folder's manifest true of its files; `more` are listed as well, and need not be there."""
    records = {
        name: FileRecord(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in (more or {}).items()
    }
    for file in path.rglob("*"):
        if file.is_file() and file.name != "MANIFEST.json":
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            name = file.relative_to(path).as_posix()
            records[name] = FileRecord(size_bytes=file.stat().st_size, sha256=digest)
    (path / "MANIFEST.json").write_bytes(manifest_text(records).encode())
    return path
