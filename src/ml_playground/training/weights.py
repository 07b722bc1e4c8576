"""A model's weights under stable names, and the refusal of weights that do not fit."""

from collections.abc import Mapping

from torch import Tensor, nn

from ml_playground.core.error_handling import CheckpointError

SHOWN_PROBLEMS = 20


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers by name, by reference; a tied weight once, under its first name."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    saved = model.state_dict(keep_vars=True)
    return parameters | {name: buffer for name, buffer in model.named_buffers() if name in saved}


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
