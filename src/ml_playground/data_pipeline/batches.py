"""Batches: tensors with their shapes written down. B rows, T tokens a row; C, H, W the shape of an image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Self

import numpy as np
import torch
from torch import Tensor

NO_TARGET = -100
"""Label of a position without a target, torch's own default."""


def labelled_of(labels: Tensor) -> Tensor | None:
    """(n,) int64: which of the labels (B, T), on the host, name a target, counted along the rows; None: all of them."""
    known = labels.numpy() != NO_TARGET
    return None if known.all() else torch.from_numpy(np.flatnonzero(known))


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Rows of ids and, for each position, the id that comes next."""

    ids: Tensor
    """(B, T) int64."""
    labels: Tensor
    """(B, T) int64; NO_TARGET where nothing is to be predicted."""
    weights: Tensor | None = None
    """(B, T) float32: of each target; none: 1."""
    positions: Tensor | None = None
    """(B, T) int64: of each token in its document, from 0; none: in its row."""
    documents: Tensor | None = None
    """(B, T) int64: numbers that tell the documents of a row apart, growing along it; none: a row is one document. A token attends
    to its own document alone. With `positions`, or not at all.
    """

    labelled: Tensor | None = None
    """(n,) int64: which of the B T positions have a label, counted along the rows, so that a device need not be asked how many;
    none: all of them, or they were not looked for."""

    @property
    def rows(self) -> int:
        """B."""
        return len(self.ids)

    def to(self, device: torch.device) -> Self:
        """The same batch on another device, with its labelled positions: there nobody could count them without waiting."""
        moved = self._with_each(lambda tensor: tensor.to(device, non_blocking=True))
        if device.type == "cpu" or self.labels.device.type != "cpu":
            return moved
        found = labelled_of(self.labels)
        return moved if found is None else replace(moved, labelled=found.to(device))

    def pinned(self) -> Self:
        """The same batch in memory from which a CUDA device fetches while the host goes on."""
        return self._with_each(Tensor.pin_memory)

    def split(self, parts: int) -> Sequence[Self]:
        """At most so many batches, of nearly equally many rows, in order; views of this one."""
        sizes = [len(piece) for piece in self.ids.chunk(parts)]
        return [self.of_rows(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]

    def of_rows(self, start: int, end: int) -> Self:
        """Those from `start` to before `end`; views of this one."""
        return self._with_each(lambda tensor: tensor[start:end])

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(*[None if one is None else change(one) for one in self._tensors])  # pyright: ignore[reportArgumentType]

    @property
    def _tensors(self) -> tuple[Tensor | None, ...]:
        return self.ids, self.labels, self.weights, self.positions, self.documents


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Pairs of answers to the same prompts, and what a reference model makes of each."""

    tokens: TokenBatch
    """2 B rows: 2k is the better answer of pair k, 2k + 1 the worse one."""
    reference: Tensor
    """(2 B,) float32: log-probability of each row's targets by the reference model, nats."""

    @property
    def rows(self) -> int:
        """B, the pairs: no pair is ever split."""
        return len(self.reference) // 2

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        return type(self)(self.tokens.to(device), self.reference.to(device, non_blocking=True))

    def pinned(self) -> Self:
        """The same batch in memory from which a CUDA device fetches while the host goes on."""
        return type(self)(self.tokens.pinned(), self.reference.pin_memory())

    def split(self, parts: int) -> Sequence[Self]:
        """At most so many batches, of nearly equally many pairs, in order; views of this one."""
        sizes = [2 * len(piece) for piece in torch.arange(self.rows).chunk(parts)]
        tokens = (self.tokens.of_rows(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True))
        references = torch.split(self.reference, sizes)
        return [type(self)(some, own) for some, own in zip(tokens, references, strict=True)]


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """Images and the class of each."""

    images: Tensor
    """(B, C, H, W) float32, normalised."""
    labels: Tensor
    """(B,) int64."""

    @property
    def rows(self) -> int:
        """B."""
        return len(self.images)

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        return type(self)(self.images.to(device, non_blocking=True), self.labels.to(device, non_blocking=True))

    def pinned(self) -> Self:
        """The same batch in memory from which a CUDA device fetches while the host goes on."""
        return type(self)(self.images.pin_memory(), self.labels.pin_memory())

    def split(self, parts: int) -> Sequence[Self]:
        """At most so many batches, of nearly equally many images, in order; views of this one."""
        pieces = zip(self.images.chunk(parts), self.labels.chunk(parts), strict=True)
        return [type(self)(images, labels) for images, labels in pieces]
