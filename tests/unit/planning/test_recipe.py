"""The settings of a planned run."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.loading import load
from ml_playground.configuration.origins import Layer
from ml_playground.planning.budget import (
    ANCHOR,
    EVALUATION_SHARE,
    LEAST_EVALUATED,
    Choice,
    DataFacts,
    Timing,
)
from ml_playground.planning.recipe import HOOK, Time, evaluation_of, reasons, recorded, settings_of, without
from ml_playground.planning.scaling import Forecast

FACTS = DataFacts(vocab_size=96, train_tokens=1_000_000, validation_tokens=100_000, bytes_per_token=1.0)


def choice(steps: int = 1000, evaluation_s: float = 5e-6, dropout: float = 0.0) -> Choice:
    """The anchor, chosen."""
    timing = Timing(step_s=0.02, evaluation_s=evaluation_s)
    return Choice(ANCHOR, timing, steps, Forecast(1.6, 1.5, 1.7), {ANCHOR: 1.6}, dropout)


@pytest.mark.parametrize(("steps", "dropout"), [(100, 0.0), (1000, 0.1), (9000, 0.2)])
def test_settings_make_a_job_and_come_back_from_its_record(steps: int, dropout: float, tmp_path: Path) -> None:
    """A run that goes on is planned as it was."""
    table = settings_of(choice(steps, dropout=dropout), FACTS, Time(3.0, 160.0))
    job = load("python_stdlib", environ={}, plan=Layer("--minutes 3", table, tmp_path)).job
    assert job.model.dropout == dropout
    assert (job.hooks[HOOK].minutes, job.hooks[HOOK].train_seconds, job.hooks[HOOK].expected_loss) == (3.0, 160.0, 1.6)
    assert job.checkpointing.every_steps is None
    assert job.runtime.compile is False
    again = recorded(json.loads(job.model_dump_json()))
    assert load("python_stdlib", environ={}, plan=Layer("--minutes 3", again, tmp_path)).job == job


@given(st.floats(1e-8, 1e-3), st.floats(20, 3600), st.integers(100, 100_000))
def test_evaluations_cost_their_share_or_read_the_least_that_means_something(
    evaluation_s: float, seconds: float, steps: int
) -> None:
    """Two at least: the first tells how long the last will take."""
    every_steps, batches = evaluation_of(choice(steps, evaluation_s), FACTS, seconds)
    count = steps // every_steps
    tokens = FACTS.validation_tokens if batches is None else batches * ANCHOR.step_tokens
    assert count >= 2
    assert count * tokens * evaluation_s <= 1.5 * EVALUATION_SHARE * seconds or tokens <= LEAST_EVALUATED


def test_without_leaves_the_plan_alone_where_nothing_is_fixed() -> None:
    """And takes out exactly what is."""
    table = {"model": {"kind": "gpt", "n_layer": 3}, "train": {"max_steps": 9}}
    assert without(table, {}) == table
    assert without(table, {"model.n_layer": 5}) == {"model": {"kind": "gpt"}, "train": {"max_steps": 9}}
    assert without(table, {"model.kind": "rnn"}) == {"train": {"max_steps": 9}}


def test_reasons_say_what_was_chosen_and_what_was_measured_too() -> None:
    """Numbers that a person can check."""
    lines = reasons(choice(), FACTS)
    assert lines == [
        "3 blocks of 128, context 64, 24 rows: 0.59 M weights in its blocks",
        "1,000 steps of 20.0 ms: 1.5 M tokens, 1.5 epochs",
    ]
    assert reasons(choice(dropout=0.1), FACTS)[0].endswith("0.59 M weights in its blocks, dropout 0.1")
