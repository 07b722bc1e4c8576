"""What there is to say where an evaluation measures no number."""

from ml_playground.core.error_handling import CheckpointError


def diverged_on(checkpoint: str, split: str) -> CheckpointError:
    """Of a checkpoint whose loss on a split is NaN."""
    return CheckpointError(
        f"The loss of {checkpoint} on the {split} split is not a number: its weights have diverged. "
        "Evaluate an earlier checkpoint (--checkpoint STEP), and train again with a lower optimizer.lr."
    )
