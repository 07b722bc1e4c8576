"""What is due at a step."""

from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.models import CheckpointingSettings, TrainSettings
from ml_playground.core.values import Action
from ml_playground.training.due import due_at


@given(
    st.integers(1, 50),
    st.integers(1, 9),
    st.integers(1, 9) | st.none(),
    st.floats(0, 400),
    st.sampled_from([None, 2.0]),
)
def test_due_at_follows_each_interval(
    step: int, evaluate: int, save: int | None, unsaved_s: float, minutes: float | None
) -> None:
    """Against the plain reading of the settings; the last step is evaluated and saved whatever they say."""
    train = TrainSettings(max_steps=50, evaluate_every_steps=evaluate)
    due = due_at(step, 50, train, CheckpointingSettings(every_steps=save, every_minutes=minutes), unsaved_s=unsaved_s)
    last = step == 50
    assert (Action.EVALUATE in due) == (last or step % evaluate == 0)
    by_steps = save is not None and step % save == 0
    by_time = minutes is not None and unsaved_s >= 120
    assert (Action.SAVE in due) == (last or by_steps or by_time)
