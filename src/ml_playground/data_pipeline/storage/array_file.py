"""Arrays on disk: numbers without a header, written as they come; their shape stands in the manifest."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_playground.data_pipeline.storage.token_file import FileAccount

PIXEL_TYPE: np.dtype[np.uint8] = np.dtype("u1")
LABEL_TYPE: np.dtype[np.uint16] = np.dtype("<u2")


class ArrayWriter:
    """Writes one array, a part at a time."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._path = path
        self._type = dtype
        self._digest = hashlib.sha256()
        self._file = path.open("wb")

    def add(self, part: NDArray[Any]) -> None:
        """Append a part."""
        content = part.astype(self._type, copy=False).tobytes()
        self._digest.update(content)
        self._file.write(content)

    def account(self) -> FileAccount:
        """Size and hash; after closing."""
        return FileAccount(size_bytes=self._path.stat().st_size, sha256=self._digest.hexdigest())

    def close(self) -> None:
        """Flush what is held back."""
        self._file.close()
