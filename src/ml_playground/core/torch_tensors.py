"""Named tensors as one safetensors file: equal tensors give equal bytes, tied ones are stored once."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ml_playground.core.checkpoint_manifest import FileRecord
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.side_threads import SideThread

TIED = "tied"
"""The one metadata key (the order of several is not stable): JSON, further names of a tensor -> the name it is stored under."""

_DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNMENT_BYTES = 8
_TIED_NAMES = TypeAdapter(dict[str, str])


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, let_go: Callable[[], object] = lambda: None
) -> FileRecord:
    """Write tensors as a safetensors file and hash it on the way.

    The library writes from one thread and offers no hash, so the file would be read again: 1.44 GB took 2.9 s with it and
    1.5 s here (medians of five, 2 cores), where another thread hashes a tensor while it is written.

    Args:
        path: Of the file.
        tensors: By name.
        let_go: Called before the first is written, for whoever would hold them longer than needed: from then on each is let go of
            when it is written.

    Raises:
        TypeError: A tensor has a type that the format does not know.
        OSError: The file could not be written.
    """
    tied = tied_names(tensors)
    kept = sorted((name for name in tensors if name not in tied), key=lambda name: (-tensors[name].itemsize, name))
    left = {name: tensors[name] for name in kept}
    let_go()
    digest = hashlib.sha256()
    size_bytes = 0
    with path.open("wb", buffering=0) as stream, SideThread("hash") as hasher:
        for chunk in _chunks(left, tied):
            hashed = hasher.submit(digest.update, chunk)
            written = 0
            while written < len(chunk):
                written += stream.write(chunk[written:])
            hashed.result()
            size_bytes += written
    return FileRecord(size_bytes=size_bytes, sha256=digest.hexdigest())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU, under every name they had when they were written.

    Raises:
        CheckpointError: It is missing, no safetensors file, or its list of tied names is damaged.
    """
    try:
        with cast(Any, safe_open)(path, framework="pt", device="cpu") as opened:
            metadata: Mapping[str, str] = opened.metadata() or {}
            tensors: dict[str, Tensor] = opened.get_tensors()
        tied = _TIED_NAMES.validate_json(metadata.get(TIED, "{}"))
        return tensors | {name: tensors[stored] for name, stored in tied.items()}
    except (SafetensorError, OSError, ValidationError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read as tensors ({error}); restore it from a copy.") from error


def stored_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes that the content of a file will take, each tied tensor counted once."""
    tied = tied_names(tensors)
    return sum(tensor.nbytes for name, tensor in tensors.items() if name not in tied)


def tied_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Further name -> the name it is stored under, the first in the alphabet, for names of the very same memory."""
    first_name: dict[tuple[Any, ...], str] = {}
    tied: dict[str, str] = {}
    for name in sorted(tensors):
        tensor = tensors[name]
        if not tensor.numel():
            continue
        flags = (tensor.is_conj(), tensor.is_neg())
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, flags)
        if place in first_name:
            tied[name] = first_name[place]
        first_name.setdefault(place, name)
    return tied


def as_bytes(tensor: Tensor) -> Tensor:
    """What a tensor holds, in the order of its elements, on the CPU; by reference where it lies so already. (N,), uint8."""
    plain = tensor.detach().cpu().contiguous()
    # A single number counts as contiguous whatever its stride is, and 0, which `expand` leaves, is no stride of bytes.
    return plain.as_strided((plain.numel(),), (1,)).view(torch.uint8)


def _chunks(left: dict[str, Tensor], tied: Mapping[str, str]) -> Iterator[memoryview]:
    """The file: 8 bytes length of the header, the header in JSON, the tensors without gaps, each taken out of `left`."""
    header = _header(left, tied)
    yield memoryview(len(header).to_bytes(8, "little") + header)
    for name in [*left]:
        yield _content(left.pop(name))


def _header(tensors: Mapping[str, Tensor], tied: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {TIED: json.dumps(tied, sort_keys=True)}} if tied else {}
    offset = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPE_NAMES:
            raise TypeError(f"tensor {name!r} has type {tensor.dtype}, which safetensors cannot hold")
        header[name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % _ALIGNMENT_BYTES)


def _content(tensor: Tensor) -> memoryview:
    return memoryview(cast(Any, as_bytes(tensor.resolve_conj().resolve_neg()).numpy()))
