"""What the end of a run by its numbers advises."""

import pytest

from ml_playground.configuration.models import TrainSettings
from ml_playground.training.guard import BadStep
from ml_playground.training.readings import nan_message


@pytest.mark.parametrize(
    ("grad_clip", "advice"),
    [
        (0.0, "Lower optimizer.lr, lengthen schedule.warmup_steps, or set train.grad_clip to 1."),
        (5.0, "Lower optimizer.lr, lengthen schedule.warmup_steps, or set train.grad_clip to 1."),
        (1.0, "Lower optimizer.lr or lengthen schedule.warmup_steps."),
        (0.5, "Lower optimizer.lr or lengthen schedule.warmup_steps."),
    ],
)
def test_nan_message_advises_clipping_only_where_it_is_loose(grad_clip: float, advice: str) -> None:
    """Who clips at 1 already is not told to."""
    text = nan_message(BadStep(2, "the loss was nan", "stop"), 0, TrainSettings(max_steps=5, grad_clip=grad_clip))
    assert text == f"at step 2 the loss was nan; no checkpoint was saved before. {advice}"
