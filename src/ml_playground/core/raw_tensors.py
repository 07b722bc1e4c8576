"""Tensors of a safetensors file as the bytes they are: to hash and to compare them without torch, and without their number in memory."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ml_playground.core.error_handling import CheckpointError

Bytes = NDArray[np.uint8]

_CHUNK_BYTES = 1 << 26
_LENGTH_BYTES = 8
_NUMPY_NAMES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
    "BOOL": "<u1",
}


@dataclass(frozen=True, slots=True, eq=False)
class RawTensor:
    """A tensor as it lies in its file."""

    dtype: str
    """As the format names it: "F32", "BF16", ..."""
    shape: tuple[int, ...]
    content: Bytes
    """All its bytes, mapped from the file."""

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    def chunks(self) -> Iterator[Bytes]:
        """Its bytes, some whole numbers at a time."""
        for start in range(0, len(self.content), _CHUNK_BYTES):
            yield self.content[start : start + _CHUNK_BYTES]


@dataclass(frozen=True, slots=True)
class Gap:
    """How far two tensors of one type and shape are apart."""

    elements: int
    """How many of their numbers differ in a bit."""
    largest: float | None
    """The largest difference of two numbers; NaN where one of a pair is none, None for a type that this module cannot count in."""


def read_raw_tensors(path: Path) -> dict[str, RawTensor]:
    """Name -> tensor, under the names that are stored (a tied tensor has one).

    Raises:
        CheckpointError: It is missing, or no safetensors file.
    """
    try:
        # The library checks the header: sizes, types, and that the tensors lie side by side.
        with cast(Any, safe_open)(path, framework="numpy"):
            pass
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            header: dict[str, Any] = json.loads(stream.read(length))
        begin = _LENGTH_BYTES + length
        # An empty file cannot be mapped.
        empty = path.stat().st_size == begin
        content = np.empty(0, np.uint8) if empty else np.asarray(np.memmap(path, np.uint8, "r", begin))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as tensors ({error}); restore it from a copy.") from error
    header.pop("__metadata__", None)
    return {
        name: RawTensor(entry["dtype"], tuple(entry["shape"]), content[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }


def tensors_sha256(tensors: Mapping[str, RawTensor]) -> str:
    """A hash of names, types, shapes and every bit, whatever the order in the file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        for chunk in tensor.chunks():
            digest.update(cast(Any, chunk))
    return digest.hexdigest()


def gap_between(one: RawTensor, other: RawTensor) -> Gap | None:
    """How far two tensors of one type and shape are apart; None where every bit is equal."""
    elements = 0
    largest: float | None = 0.0
    for mine, yours in zip(one.chunks(), other.chunks(), strict=True):
        if np.array_equal(mine, yours):
            continue
        size = len(one.content) // one.elements
        differ = (mine.reshape(-1, size) != yours.reshape(-1, size)).any(axis=1)
        elements += int(differ.sum())
        values = [_numbers(one.dtype, part.reshape(-1, size)[differ]) for part in (mine, yours)]
        if largest is None or values[0] is None or values[1] is None:
            largest = None
        else:
            # Not a number anywhere makes the largest one none either; two infinities are none apart.
            with np.errstate(invalid="ignore"):
                largest = float(np.maximum(largest, np.abs(values[0] - values[1]).max()))
    return Gap(elements, largest) if elements else None


def _numbers(dtype: str, content: Bytes) -> NDArray[np.float64] | None:
    """Elements, a row of bytes each, as numbers; None for a type that numpy lacks."""
    if dtype == "BF16":
        # The upper half of a float32.
        wide = np.zeros((len(content), 4), np.uint8)
        wide[:, 2:] = content
        dtype, content = "F32", wide
    if dtype not in _NUMPY_NAMES:
        return None
    return np.ascontiguousarray(content).reshape(-1).view(_NUMPY_NAMES[dtype]).astype(np.float64)
