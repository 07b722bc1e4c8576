"""What the settings themselves ask for at a step boundary: a rule on numbers."""

from ml_playground.configuration.models import CheckpointingSettings, TrainSettings
from ml_playground.core.values import Action


def due_at(
    step: int, max_steps: int, train: TrainSettings, checkpointing: CheckpointingSettings, *, unsaved_s: float
) -> Action:
    """Evaluate and save as often as asked, and after the last step.

    Args:
        step: Updates that are done.
        max_steps: Updates in all.
        train: How often to evaluate.
        checkpointing: How often to save, by steps and by time.
        unsaved_s: Seconds since the last save was begun.
    """
    last = step == max_steps
    due = Action.EVALUATE if last or step % train.evaluate_every_steps == 0 else Action.NONE
    every_steps, every_minutes = checkpointing.every_steps, checkpointing.every_minutes
    by_steps = every_steps is not None and step % every_steps == 0
    by_time = every_minutes is not None and unsaved_s >= 60 * every_minutes
    return due | Action.SAVE if last or by_steps or by_time else due
