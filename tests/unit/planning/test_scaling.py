"""The loss law: what it must say whatever its constants are."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.planning.scaling import TextDifficulty, Training, fitted_law, forecast

ANCHOR = Training(
    parameters=590_000, bytes_per_token=1.0, text_tokens=10_000_000, sequence_tokens=64, step_tokens=1536, steps=131
)
TEXT = TextDifficulty(counted_loss=1.5, anchor=ANCHOR, anchor_loss=1.8)
LAW = fitted_law()


def test_forecast_of_the_anchor_is_its_loss() -> None:
    """The law goes through what was measured."""
    assert forecast(LAW, TEXT, ANCHOR).loss == pytest.approx(1.8)


@given(st.integers(100, 100_000), st.floats(1.01, 10))
def test_more_steps_on_new_text_are_never_worse(steps: int, more: float) -> None:
    """Text that is not repeated only helps."""
    text = replace(TEXT, anchor=replace(ANCHOR, text_tokens=10**12))
    few = replace(ANCHOR, steps=steps, text_tokens=10**12)
    assert forecast(LAW, text, replace(few, steps=steps * more)).loss < forecast(LAW, text, few).loss


@given(st.integers(50_000, 50_000_000), st.floats(1.1, 10))
def test_more_parameters_at_equal_steps_are_never_worse_in_one_epoch(parameters: int, more: float) -> None:
    """What a larger model costs is time, and learning by heart."""
    small = replace(ANCHOR, parameters=parameters, steps=1000)
    large = replace(small, parameters=int(parameters * more))
    assert forecast(LAW, TEXT, large).loss <= forecast(LAW, TEXT, small).loss


@given(st.floats(2, 50), st.floats(1.1, 4))
def test_repeating_a_small_text_is_worse_than_reading_a_large_one(epochs: float, more: float) -> None:
    """And the more often, the worse."""
    steps = epochs * 1_000_000 / 1536
    once, often, oftener = (
        forecast(LAW, TEXT, replace(ANCHOR, steps=steps, text_tokens=tokens)).loss
        for tokens in (10**9, 1_000_000, int(1_000_000 / more))
    )
    assert once < often < oftener


@given(st.floats(1, 1000), st.floats(1.1, 10))
def test_repetitions_are_worth_no_more_than_so_many_new_epochs(epochs: float, more: float) -> None:
    """A law without learning by heart: reading again helps, and never as much as the limit of it."""
    law = replace(LAW, repeat_scale=0.0)
    again = replace(ANCHOR, text_tokens=1_000_000, steps=epochs * 1_000_000 / 1536)
    new = replace(ANCHOR, steps=(1 + LAW.repeat_worth) * 1_000_000 / 1536, text_tokens=10**12)
    losses = [forecast(law, TEXT, training).loss for training in (new, replace(again, steps=more * again.steps), again)]
    assert losses == sorted(losses)


@given(st.floats(0.01, 0.5))
def test_dropout_costs_in_one_epoch_and_helps_a_text_that_is_known_by_heart(dropout: float) -> None:
    """The whole reason to choose it by the text."""
    few = replace(ANCHOR, steps=1000)
    many = replace(ANCHOR, steps=20_000, text_tokens=100_000)
    assert forecast(LAW, TEXT, replace(few, dropout=dropout)).loss > forecast(LAW, TEXT, few).loss
    assert forecast(LAW, TEXT, replace(many, dropout=dropout)).loss < forecast(LAW, TEXT, many).loss


def test_larger_step_at_equal_tokens_is_worse() -> None:
    """Beyond the critical batch tokens of one step say the same."""
    large = replace(ANCHOR, step_tokens=8 * 1536, steps=500)
    assert forecast(LAW, TEXT, large).loss > forecast(LAW, TEXT, replace(ANCHOR, steps=4000)).loss


@given(st.integers(200, 1_000_000))
def test_band_holds_the_forecast_and_widens_with_the_distance(steps: int) -> None:
    """What is further from the measurement is known less."""
    near = forecast(LAW, TEXT, replace(ANCHOR, steps=steps))
    far = forecast(LAW, TEXT, replace(ANCHOR, steps=20 * steps))
    assert near.low < near.loss < near.high
    assert far.high / far.loss > near.high / near.loss
