"""Tensors in safetensors files as the transformers library names them: one, or several with an index where they are large."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from ml_playground.core.atomic import write_file
from ml_playground.models.hugging_face.folder import INDEX, WEIGHTS

LARGEST_FILE_BYTES = 2 << 30
"""Of tensors in one file; a tensor that is larger has a file of its own."""


def write_tensors(tensors: Mapping[str, Tensor], folder: Path, *, largest_file_bytes: int = LARGEST_FILE_BYTES) -> None:
    """Write `model.safetensors`, or `model-00001-of-0000N.safetensors` and so on with `model.safetensors.index.json`.

    Args:
        tensors: By their names there; contiguous, none of them sharing memory with another.
        folder: Made if it is missing.
        largest_file_bytes: Where a file ends and the next one begins.

    Raises:
        StorageError: A file could not be written.
    """
    parts = files_for({name: tensor.nbytes for name, tensor in tensors.items()}, largest_file_bytes)
    if len(parts) == 1:
        _write(tensors, folder / WEIGHTS)
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(parts, start=1):
        file_name = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        _write({name: tensors[name] for name in names}, folder / file_name)
        weight_map |= dict.fromkeys(names, file_name)
    size_bytes = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size_bytes}, "weight_map": weight_map}
    write_file(folder / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")


def files_for(sizes_bytes: Mapping[str, int], largest_file_bytes: int) -> Sequence[Sequence[str]]:
    """Which tensors go into which file: in their order, as many as fit; at least one file, and none empty but an only one."""
    parts: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes_bytes.items():
        if parts[-1] and filled + size > largest_file_bytes:
            parts.append([])
            filled = 0
        parts[-1].append(name)
        filled += size
    return parts


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    write_file(path, save(dict(tensors), metadata={"format": "pt"}))
