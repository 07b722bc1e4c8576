"""A model's weights under stable names, the refusal of weights that do not fit, and the comparison of states to the bit."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.torch_tensors import as_bytes
from ml_playground.training.protocols import TensorGroups

SHOWN_PROBLEMS = 20


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Trained parameters and saved buffers by name, by reference; a tied weight once, under its first name.

    What requires no gradient is as it was built, and whoever built it will build it again.
    """
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    saved = model.state_dict(keep_vars=True)
    return parameters | {name: buffer for name, buffer in model.named_buffers() if name in saved}


def parameters_of(model: nn.Module) -> tuple[int, int]:
    """How many numbers a model has, and how many of them are trained."""
    parameters = list(model.parameters())
    return sum(map(torch.numel, parameters)), sum(one.numel() for one in parameters if one.requires_grad)


def refuse_misfits(group: str, expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Compare names and shapes.

    Raises:
        CheckpointError: Something does not fit; the first problems are listed, the others counted.
    """
    problems = [f"{name} is missing" for name in sorted(expected.keys() - got.keys())]
    problems += [f"{name} is not in the model" for name in sorted(got.keys() - expected.keys())]
    problems += [
        f"{name} is {tuple(got[name].shape)}, the model's is {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & got.keys())
        if got[name].shape != expected[name].shape
    ]
    if problems:
        shown = "; ".join(problems[:SHOWN_PROBLEMS])
        if len(problems) > SHOWN_PROBLEMS:
            shown += f"; and {len(problems) - SHOWN_PROBLEMS} more"
        raise CheckpointError(
            f"The saved {group} weights do not fit this job: {shown}. Start a new run with --fresh, or restore the "
            "settings they were trained with."
        )


def differing(one: TensorGroups, other: TensorGroups) -> Iterator[str]:
    """Names (`group/tensor`) of what is not the same to the bit, or is on one side only."""
    for group in sorted(one.keys() | other.keys()):
        left, right = one.get(group, {}), other.get(group, {})
        for name in sorted(left.keys() | right.keys()):
            if name not in left or name not in right or not _same_bits(left[name], right[name]):
                yield f"{group}/{name}"


def _same_bits(one: Tensor, other: Tensor) -> bool:
    # As bytes: NaN equals itself, and minus zero is not zero.
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(as_bytes(one), as_bytes(other))
