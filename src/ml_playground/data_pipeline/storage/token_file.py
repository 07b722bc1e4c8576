"""Token files: little-endian unsigned integers without a header, and the index of where documents start beside them."""

import hashlib
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ml_playground.configuration.base import CountOrZero, Strict
from ml_playground.core.tokenizer_protocol import Ids, ids_dtype

TokenType = Literal["uint16", "uint32"]
INDEX_TYPE: np.dtype[np.uint64] = np.dtype("<u8")
WEIGHT_TYPE: np.dtype[np.float32] = np.dtype("<f4")
"""Of tokens of chats as targets."""

ScalarT = TypeVar("ScalarT", bound=np.generic)


class FileAccount(Strict):
    """What a file must be."""

    size_bytes: CountOrZero
    sha256: str


def token_type(vocab_size: int) -> TokenType:
    """The smaller type that holds every id."""
    return "uint16" if ids_dtype(vocab_size) is np.uint16 else "uint32"


def stored_type(name: TokenType) -> np.dtype[np.uint16 | np.uint32]:
    """The type as it lies on disk: little-endian everywhere."""
    return np.dtype("<u2") if name == "uint16" else np.dtype("<u4")


class TokenWriter:
    """Writes `<split>.tokens` and `<split>.index` as ids come in."""

    def __init__(self, folder: Path, split: str, name: TokenType) -> None:
        self.tokens = 0
        self._type = stored_type(name)
        self._paths = (folder / f"{split}.tokens", folder / f"{split}.index")
        self._tokens_file = self._paths[0].open("wb")
        self._index_file = self._paths[1].open("wb")
        self._hashes = (hashlib.sha256(), hashlib.sha256())

    def start_document(self) -> None:
        """Note that a document starts here."""
        content = np.array([self.tokens], dtype=INDEX_TYPE).tobytes()
        self._hashes[1].update(content)
        self._index_file.write(content)

    def add(self, ids: Ids) -> None:
        """Append ids."""
        content = ids.astype(self._type, copy=False).tobytes()
        self._hashes[0].update(content)
        self._tokens_file.write(content)
        self.tokens += len(ids)

    def accounts(self) -> dict[str, FileAccount]:
        """Size and hash of both files, by name; after closing."""
        return {
            path.name: FileAccount(size_bytes=path.stat().st_size, sha256=digest.hexdigest())
            for path, digest in zip(self._paths, self._hashes, strict=True)
        }

    def close(self) -> None:
        """Flush what is held back to both files."""
        try:
            self._tokens_file.close()
        finally:
            self._index_file.close()


def read_tokens(folder: Path, split: str, name: TokenType) -> NDArray[np.uint16 | np.uint32]:
    """The ids of a split, mapped, not read: (tokens,). An empty file cannot be mapped and gives an empty array."""
    return mapped(folder / f"{split}.tokens", stored_type(name))


def read_index(folder: Path, split: str) -> NDArray[np.uint64]:
    """Where each document of a split starts, in tokens: (documents,)."""
    return mapped(folder / f"{split}.index", INDEX_TYPE)


def mapped(path: Path, dtype: np.dtype[ScalarT]) -> NDArray[ScalarT]:
    """The numbers of a file, mapped, not read: (n,). An empty file cannot be mapped and gives an empty array."""
    if not path.stat().st_size:
        return np.empty(0, dtype=dtype)
    # The plain view of the map: np.memmap would be dragged through every slice at a microsecond each.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
