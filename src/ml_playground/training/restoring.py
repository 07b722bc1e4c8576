"""From a checkpoint to the place where the loop goes on."""

import math
from collections.abc import Sequence
from typing import Any

from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.training.checkpoint_protocols import OpenCheckpoint, Saved
from ml_playground.training.loop import Ending, Start
from ml_playground.training.protocols import Learner
from ml_playground.training.resume import Choice


def ended_before(checkpoint: OpenCheckpoint | None, choice: Choice) -> Ending | None:
    """The end of a run that was killed between its last save and its result."""
    if checkpoint is None or checkpoint.ending is None or choice.differences:
        return None
    return Ending(checkpoint.ending, checkpoint.progress.step, checkpoint.metrics or {})


def restore(
    learner: Learner[Any],
    checkpoint: OpenCheckpoint | None,
    saved: Sequence[Saved],
    data_fingerprint: str,
    max_steps: int,
) -> Start:
    """Load a checkpoint into the learner; where the loop is to go on.

    Raises:
        ConfigError: The run is to end before the step of the checkpoint.
        DataError: It was trained on other data.
        CheckpointError: Its tensors do not fit the learner.
    """
    if checkpoint is None:
        return Start()
    progress = checkpoint.progress
    if progress.step > max_steps:
        raise ConfigError(
            f"{checkpoint.reference} was taken at step {progress.step}, but the run is now to end at step {max_steps}; "
            f"set train.max_steps to {progress.step} or more, or begin a new run: --fresh."
        )
    if checkpoint.data_fingerprint != data_fingerprint:
        raise DataError(
            f"{checkpoint.reference} was trained on other data (fingerprint {checkpoint.data_fingerprint[:12]}, "
            f"the prepared data now have {data_fingerprint[:12]}); prepare the former data again, or start with --fresh."
        )
    learner.load_state_dict(checkpoint.tensors())
    losses = [(one.metrics or {}).get("loss", math.inf) for one in saved]
    return Start(
        step=progress.step,
        targets=progress.targets,
        elapsed_s=progress.elapsed_s,
        lr_factor=checkpoint.lr_factor,
        best_loss=min((loss for loss in losses if not math.isnan(loss)), default=math.inf),
        metrics=checkpoint.metrics or {},
    )
