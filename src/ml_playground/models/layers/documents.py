"""Rows that hold several documents: attention stays within each of them. B rows, T tokens, H heads, D features, t of one document."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

Lengths = tuple[int, ...]
"""Tokens of each document, in order, of all rows one after another; together B T."""


def lengths_of(documents: Tensor) -> Lengths | None:
    """The documents of all rows, (B, T), where attention can go from one to the next; None where it is masked instead.

    A mask costs the whole T x T: a layer of attention over eight documents of 128 tokens takes 35 ms one by one and 100 ms masked
    (384 wide, one core, float32; in bfloat16 13 and 29). On other devices each document would be a launch, and the host would
    have to wait for their lengths; a compiled graph would hold for these lengths alone.
    """
    if documents.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    flat = documents.flatten()
    begins = torch.ones_like(flat, dtype=torch.bool)
    torch.ne(flat[1:], flat[:-1], out=begins[1:])
    begins[:: documents.shape[1]] = True
    # In numpy: torch counts what finds positions as a read of the device, which this is not.
    starts = np.flatnonzero(begins.numpy())
    return tuple(cast(list[int], np.diff(starts, append=len(flat)).tolist()))


def apart(x: Tensor, lengths: Lengths) -> Sequence[Tensor]:
    """Each document of (B, H, T, D) by itself, (1, H, t, D).

    One split, whose gradient is one cat: each of many slices would fill a gradient of the whole batch with zeros.
    """
    split = torch.split(x.transpose(1, 2).flatten(0, 1), list(lengths))
    return [part.transpose(0, 1)[None] for part in split]


def together(parts: Sequence[Tensor], rows: int) -> Tensor:
    """What `apart` took apart, (1, H, t, D) each, in `rows` rows again: (B, T, H, D)."""
    whole = torch.cat([part[0].transpose(0, 1) for part in parts])
    return whole.view(rows, -1, *whole.shape[1:])


def within_documents(mask: Tensor, documents: Tensor) -> Tensor:
    """A mask (T, T) that is added to scores, and closed between documents (B, T): (B, 1, T, T)."""
    other = documents[:, None, :, None] != documents[:, None, None, :]
    return mask.expand(len(documents), 1, *mask.shape).masked_fill(other, float("-inf"))
