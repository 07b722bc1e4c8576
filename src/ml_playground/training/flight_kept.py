"""The learner as it was before the trial flight: where it can be had again, with as little of it in memory as can be.

The trial's steps take what those of the run take; what is kept for its end comes on top of their peak.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ml_playground.core.deps import Clock
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.torch_tensors import as_bytes
from ml_playground.training.checkpoint_protocols import OpenCheckpoint
from ml_playground.training.checkpointing.snapshot_buffer import SnapshotBuffer
from ml_playground.training.protocols import TensorGroups
from ml_playground.training.weights import differing

NAMED = 3
"""Tensors that an error names."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A state from before."""

    state: Callable[[], TensorGroups]
    """Every tensor of it."""
    copy_s: float
    """What a copy of the whole state took, as a save makes it."""


def kept_of(
    state: TensorGroups, buffer: SnapshotBuffer, checkpoint: OpenCheckpoint | None, clock: Clock
) -> Kept | None:
    """The state of a learner as it is now; None where there is no memory for a copy.

    Args:
        state: By reference.
        buffer: Where a save would copy it to.
        checkpoint: From which it was loaded, if it was: then it is read again when it is asked for. Of a first start no zeros are
            kept, which are all but the weights of most optimizers.
        clock: Times the copy.
    """
    began_s = clock.tick()
    copied = buffer.copy(state)
    if copied is None:
        return None
    if copied.arrived is not None:
        copied.arrived.synchronize()
    copy_s = clock.tick() - began_s
    if checkpoint is not None:
        # It may hold more: averages, which a branch of its run has left behind.
        names = [*copied.groups]
        return Kept(lambda: {name: tensors for name, tensors in checkpoint.tensors().items() if name in names}, copy_s)
    groups = {
        group: {name: _without_zeros(one) for name, one in named.items()} for group, named in copied.groups.items()
    }
    return Kept(lambda: groups, copy_s)


def refuse_differences(how: str, one: TensorGroups, other: TensorGroups) -> None:
    """Compare two states of a learner.

    Raises:
        CheckpointError: They are not the same to the bit; names the first tensors.
    """
    names = list(differing(one, other))
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise CheckpointError(
            f"The learner {how} is not what it was: {', '.join(names[:NAMED])}{more}. A run could not go on exactly after a "
            "stop; the fault is in the code of the model or the optimizer."
        )


def _without_zeros(tensor: Tensor) -> Tensor:
    """The same to the bit; what is zero all over takes no memory."""
    if tensor.numel() <= 1 or as_bytes(tensor).any():
        return tensor
    return torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
