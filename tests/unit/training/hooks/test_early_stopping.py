"""Patience is counted right, and survives a resume."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.error_handling import ConfigError
from ml_playground.core.values import BY_LOSS, NOTHING, Action, Merit, Wish
from ml_playground.training.hooks.early_stopping import EarlyStoppingHook, build
from ml_playground.training.settings import EarlyStopping
from tests.fakes.hooks import hook_context, progress

FINISH = Wish(Action.FINISH)
LOSSES = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=16), max_size=12)


def answers_of(hook: EarlyStoppingHook, losses: list[float]) -> list[Wish]:
    """What the hook wishes after each evaluation."""
    return [hook.on_evaluation(progress(1), {"loss": loss}) for loss in losses]


def test_on_evaluation_patience_used_up_finishes(tmp_path: Path) -> None:
    """Two misses in a row at patience 2; the improvement between begins anew."""
    hook = build(EarlyStopping(patience=2), hook_context(tmp_path))
    assert answers_of(hook, [3.0, 3.5, 2.0, 2.0, 2.1]) == [NOTHING, NOTHING, NOTHING, NOTHING, FINISH]


def test_on_evaluation_less_than_min_delta_is_a_miss() -> None:
    """An improvement must be worth the time; exactly min_delta is."""
    hook = EarlyStoppingHook(EarlyStopping(patience=1, min_delta=0.5), BY_LOSS)
    assert answers_of(hook, [3.0, 2.5, 2.25]) == [NOTHING, NOTHING, FINISH]


def test_on_evaluation_metric_that_is_better_when_higher_waits_for_more() -> None:
    """Accuracy grows; the loss that grows with it does not matter."""
    hook = EarlyStoppingHook(EarlyStopping(metric="accuracy", patience=2), Merit("accuracy", higher=True))
    answers = [
        hook.on_evaluation(progress(1), {"loss": loss, "accuracy": accuracy})
        for loss, accuracy in ((1.0, 0.5), (2.0, 0.6), (0.5, 0.6), (0.1, 0.55))
    ]
    assert answers == [NOTHING, NOTHING, NOTHING, FINISH]


def test_on_evaluation_no_number_is_a_miss_and_leaves_the_mean_alone() -> None:
    """A NaN that entered the mean would never leave it."""
    hook = EarlyStoppingHook(EarlyStopping(patience=2, smoothing=0.5), BY_LOSS)
    assert answers_of(hook, [float("nan"), 3.0, float("inf"), 2.0]) == [NOTHING] * 4
    assert hook.state_dict() == {"misses": 0, "lowest": 2.5, "mean": 2.5, "metric": "loss"}


def test_on_evaluation_smoothing_forgives_one_lucky_evaluation() -> None:
    """Without it, the outlier 1.0 would make everything after it a miss."""
    losses = [3.0, 1.0, 2.2, 1.9, 1.7, 1.5]
    plain = EarlyStoppingHook(EarlyStopping(patience=3), BY_LOSS)
    smooth = EarlyStoppingHook(EarlyStopping(patience=3, smoothing=0.7), BY_LOSS)
    assert FINISH in answers_of(plain, losses)
    assert FINISH not in answers_of(smooth, losses)


def test_on_evaluation_unknown_metric_lists_those_there_are() -> None:
    """A misspelt metric must not run for hours without ever stopping."""
    hook = EarlyStoppingHook(EarlyStopping(metric="acuracy"), BY_LOSS)
    with pytest.raises(ConfigError) as caught:
        hook.on_evaluation(progress(1), {"loss": 1.0, "accuracy": 0.5})
    assert str(caught.value) == (
        "metric = 'acuracy' of the early_stopping hook is not among what an evaluation measures; "
        "did you mean 'accuracy'? (allowed: accuracy, loss)."
    )


@given(before=LOSSES, after=LOSSES, smoothing=st.sampled_from([0.0, 0.5]))
def test_state_dict_resumed_anywhere_wishes_as_if_never_stopped(
    before: list[float], after: list[float], smoothing: float
) -> None:
    """Resume is exact: the state that JSON carries decides all later answers."""
    settings = EarlyStopping(patience=2, smoothing=smoothing, min_delta=0.1)
    whole, first, second = (EarlyStoppingHook(settings, BY_LOSS) for _ in range(3))
    expected = answers_of(whole, before + after)[len(before) :]
    answers_of(first, before)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert answers_of(second, after) == expected


def test_load_state_dict_empty_begins_anew() -> None:
    """A hook that was not there before has nothing to remember."""
    hook = EarlyStoppingHook(EarlyStopping(patience=1), BY_LOSS)
    hook.load_state_dict({})
    assert answers_of(hook, [3.0, 3.0]) == [NOTHING, FINISH]


def test_steering_is_true() -> None:
    """A run whose rule to stop has failed must not go on as if it had none."""
    assert EarlyStoppingHook.steering


@pytest.mark.parametrize(
    "state",
    [
        {"misses": 1},
        {"misses": "1", "lowest": None, "mean": None},
        {"misses": -1, "lowest": None, "mean": None},
        {"misses": 0, "lowest": [], "mean": None},
        {"misses": 0, "lowest": None, "mean": float("nan")},
        {"misses": 0, "lowest": None, "mean": None, "more": 1},
    ],
    ids=str,
)
def test_load_state_dict_of_another_form_is_refused(state: dict[str, Any]) -> None:
    """It would else be obeyed, or end the run at some later evaluation."""
    with pytest.raises(ValueError, match="validation error"):
        EarlyStoppingHook(EarlyStopping(), BY_LOSS).load_state_dict(state)


def test_load_state_of_another_metric_begins_anew() -> None:
    """A branch that watches something else compares with none of the former numbers, and has its whole patience."""
    former = EarlyStoppingHook(EarlyStopping(metric="accuracy", patience=2), Merit("accuracy", higher=True))
    for accuracy in (0.98, 0.9):
        former.on_evaluation(progress(1), {"accuracy": accuracy})
    branch = EarlyStoppingHook(EarlyStopping(patience=2), BY_LOSS)
    branch.load_state_dict(former.state_dict())
    assert answers_of(branch, [0.3, 0.2, 0.1]) == [NOTHING] * 3
