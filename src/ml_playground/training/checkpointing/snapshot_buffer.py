"""Host memory into which the tensors of a snapshot are copied, so that training may go on changing them."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ml_playground.core.machine import probe
from ml_playground.core.process_memory import kept_freed_bytes
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

    groups: dict[str, dict[str, Tensor]]
    """As they were given; whoever writes them may empty it on the way."""
    arrived: Arrival | None
    """The moment when the last copy from a GPU has come; none: all are there."""


class SnapshotBuffer:
    """Room for one snapshot at a time: one block, kept until the run ends, or what the training has freed and gets back."""

    def __init__(self, most_bytes: int | None = None, *, among_freed: bool = False) -> None:
        """Nothing is asked for yet.

        Args:
            most_bytes: The most that may be asked for; none: half of the memory that is free then.
            among_freed: The process keeps what it frees (`runtime.allocator = "retain"`), so that between two steps there is
                room where activations have been: each tensor is copied by itself, and its room is free again as soon as nobody
                holds the copy. Copies from a GPU need a block all the same.
        """
        self._most_bytes = most_bytes
        self._among_freed = among_freed
        self._block = torch.empty(0, dtype=torch.uint8)

    def preparation(self, groups: TensorGroups) -> Callable[[], None]:
        """What makes room for these tensors while the training goes on, to be called on any thread.

        Fresh memory is handed out by the kernel page by page when it is first written, which takes several times as long as
        the copy into it: so it is written once, before the first save.
        """
        if not self._lies_among_freed(groups):

            def reserve() -> None:
                self._reserve(groups)

            return reserve
        # Asked for here: glibc gives other threads memory of their own, of which a save on this one would have nothing.
        missing = [self._fresh(snapshot_bytes(groups) - kept_freed_bytes())]
        # Taken out, so that it is freed when it is written, whoever may still hold this call.
        return lambda: _write(missing.pop())

    def copy(self, groups: TensorGroups) -> Copied | None:
        """The tensors as they are at this point of their stream; None where there is no memory for them.

        On the CPU all are there on return. From a GPU they are under way: what is queued behind may change the originals.
        """
        places = self._places(groups)
        if places is None:
            return None
        copied: dict[str, dict[str, Tensor]] = {group: {} for group in groups}
        on_gpu = False
        for (group, names, tensor), place in zip(_all_of(groups), places, strict=True):
            room = place.view(tensor.dtype).view(tensor.shape)
            room.copy_(tensor.detach(), non_blocking=tensor.is_cuda)
            copied[group] |= dict.fromkeys(names, room)
            on_gpu |= tensor.is_cuda
        return Copied(copied, _now_on_gpu() if on_gpu else None)

    def _places(self, groups: TensorGroups) -> Iterable[Tensor] | None:
        """Bytes for each memory that is stored; None where there is no room."""
        if not self._lies_among_freed(groups):
            return self._in_block(groups) if self._reserve(groups) else None
        missing_bytes = snapshot_bytes(groups) - kept_freed_bytes()
        if missing_bytes > 0 and missing_bytes > self._most():
            return None
        places: list[Tensor] = []
        for _, _, tensor in _all_of(groups):
            place = _memory(tensor.nbytes)
            if place is None:
                return None
            places.append(place)
        return places

    def _lies_among_freed(self, groups: TensorGroups) -> bool:
        return self._among_freed and not _from_gpu(groups)

    def _fresh(self, size_bytes: int) -> Tensor | None:
        return _memory(size_bytes) if 0 < size_bytes <= self._most() else None

    def _reserve(self, groups: TensorGroups) -> bool:
        """Have a block that holds these tensors; False where there is no memory for one."""
        size_bytes = snapshot_bytes(groups)
        if size_bytes <= len(self._block):
            return True
        if size_bytes > self._most():
            return False
        self._block = torch.empty(0, dtype=torch.uint8)
        if _from_gpu(groups):
            self._block = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)
        elif (block := _memory(size_bytes)) is not None:
            _write(block)
            self._block = block
        return len(self._block) == size_bytes

    def _in_block(self, groups: TensorGroups) -> Iterator[Tensor]:
        offset = 0
        for _, _, tensor in _all_of(groups):
            yield self._block[offset : offset + tensor.nbytes]
            offset += _aligned(tensor.nbytes)

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


def _from_gpu(groups: TensorGroups) -> bool:
    return any(tensor.is_cuda for _, _, tensor in _all_of(groups))


def _memory(size_bytes: int) -> Tensor | None:
    """Bytes that nothing is written to yet; None where there are not so many."""
    # Numpy asks the kernel for huge pages, torch does not.
    try:
        # Of an array without a byte torch cannot change the type.
        return torch.from_numpy(np.empty(max(size_bytes, 1), dtype=np.uint8))[:size_bytes]
    except MemoryError:
        return None


def _write(memory: Tensor | None) -> None:
    """Have the kernel hand out every page."""
    # Numpy's loop leaves the other threads alone.
    if memory is not None:
        memory.numpy()[::_PAGE_BYTES] = 0


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _now_on_gpu() -> Arrival:
    event = torch.cuda.Event()
    event.record()
    return event
