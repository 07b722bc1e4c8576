"""A block of host memory into which the tensors of a snapshot are copied, so that training may go on changing them."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ml_playground.core.machine import probe
from ml_playground.core.torch_tensors import tied_names
from ml_playground.training.protocols import TensorGroups

LARGEST_SHARE = 0.5
"""Of the memory that is free when the block is made; above, a save costs time instead of memory."""

# A cache line; the widest numbers need 16 bytes.
_ALIGNMENT_BYTES = 64
_PAGE_BYTES = 4096


class Arrival(Protocol):
    """A moment on a device."""

    def synchronize(self) -> None:
        """Wait for it."""
        ...


class Copied(NamedTuple):
    """Tensors that nobody else changes."""

    groups: TensorGroups
    arrived: Arrival | None
    """The moment when the last copy from a GPU has come; none: all are there."""


class SnapshotBuffer:
    """One block, kept until the run ends, for one snapshot at a time."""

    def __init__(self, most_bytes: int | None = None) -> None:
        """`most_bytes`: the largest block that may be made; none: half of the memory that is free then."""
        self._most_bytes = most_bytes
        self._block = torch.empty(0, dtype=torch.uint8)

    def reserve(self, groups: TensorGroups) -> bool:
        """Have a block that holds these tensors; False where there is no memory for one.

        Fresh memory is handed out by the kernel page by page when it is first written, which takes several times as long as
        the copy into it: so it is written here once, before the first save.
        """
        size_bytes = snapshot_bytes(groups)
        if size_bytes <= len(self._block):
            return True
        if size_bytes > self._most():
            return False
        self._block = torch.empty(0, dtype=torch.uint8)
        if any(tensor.is_cuda for _, _, tensor in _all_of(groups)):
            self._block = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)
        else:
            # Numpy asks the kernel for huge pages, torch does not, and numpy's loop leaves the other threads alone.
            try:
                block = np.empty(size_bytes, dtype=np.uint8)
            except MemoryError:
                return False
            block[::_PAGE_BYTES] = 0
            self._block = torch.from_numpy(block)
        return True

    def copy(self, groups: TensorGroups) -> Copied | None:
        """The tensors as they are at this point of their stream; None where there is no memory for them.

        On the CPU all are there on return. From a GPU they are under way: what is queued behind may change the originals.
        """
        if not self.reserve(groups):
            return None
        copied: dict[str, dict[str, Tensor]] = {group: {} for group in groups}
        offset = 0
        on_gpu = False
        for group, names, tensor in _all_of(groups):
            place = self._block[offset : offset + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            place.copy_(tensor.detach(), non_blocking=tensor.is_cuda)
            copied[group] |= dict.fromkeys(names, place)
            offset += _aligned(tensor.nbytes)
            on_gpu |= tensor.is_cuda
        return Copied(copied, _now_on_gpu() if on_gpu else None)

    def _most(self) -> float:
        if self._most_bytes is not None:
            return self._most_bytes
        available_bytes = probe().available_bytes
        return math.inf if available_bytes is None else available_bytes * LARGEST_SHARE


def snapshot_bytes(groups: TensorGroups) -> int:
    """Host memory that the copy of a snapshot takes: each number once, tied tensors once."""
    return sum(_aligned(tensor.nbytes) for _, _, tensor in _all_of(groups))


def _all_of(groups: TensorGroups) -> Iterator[tuple[str, list[str], Tensor]]:
    """Group, names and tensor of each memory that is stored, tied names together."""
    for group, tensors in groups.items():
        for name, others in _further_names(tensors).items():
            yield group, [name, *others], tensors[name]


def _further_names(tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Name that is stored -> the names that are tied to it."""
    tied = tied_names(tensors)
    names: dict[str, list[str]] = {name: [] for name in tensors if name not in tied}
    for name, stored in tied.items():
        names[stored].append(name)
    return names


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _now_on_gpu() -> Arrival:
    event = torch.cuda.Event()
    event.record()
    return event
