"""The files that trainer and viewers share."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from ml_playground.core.run_schema import SCHEMA_VERSION, ControlRequest, Event, MetricRow, Result, Status, complaint

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
ROWS = [
    Status(run="a/b", state="training", pid=1, updated_at=NOW, step=3, max_steps=9, loss=math.inf, eta_s=2.5),
    MetricRow(kind="train", step=3, values={"loss": 0.1 + 0.2}, timing={"elapsed_s": 1.5}),
    Event(time=NOW, step=3, kind="wish", data={"lr_factor": 0.5, "actions": ["SAVE"]}),
    ControlRequest(action="set_lr_factor", lr_factor=0.5),
    Result(reason="completed", step=9, max_steps=9, metrics={"loss": 1.25}),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_row_through_json_is_the_same(row: BaseModel) -> None:
    """What a trainer writes, a viewer reads, to the last bit."""
    assert type(row).model_validate_json(row.model_dump_json()) == row


@given(values=st.dictionaries(st.text(max_size=4), st.floats(allow_nan=False), max_size=3))
def test_metric_row_any_number_survives(values: dict[str, float]) -> None:
    """Equality of runs is asked of these numbers."""
    row = MetricRow(kind="evaluation", step=1, values=values)
    assert MetricRow.model_validate_json(row.model_dump_json()).values == values


def test_metric_row_nan_survives() -> None:
    """A run that diverges says so in its rows."""
    row = MetricRow.model_validate_json(MetricRow(kind="train", step=1, values={"loss": math.nan}).model_dump_json())
    assert math.isnan(row.values["loss"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_row_with_unknown_keys_is_read_without_them(row: BaseModel) -> None:
    """A viewer of today reads what a later trainer adds."""
    text = row.model_dump_json()[:-1] + ',"added_later":[1]}'
    assert type(row).model_validate_json(text) == row


@pytest.mark.parametrize("kind", [Status, Event, ControlRequest, Result])
def test_row_of_another_version_is_refused(kind: type[BaseModel]) -> None:
    """A change that an older reader cannot read raises the version, and the reader says so."""
    row = next(row for row in ROWS if type(row) is kind)
    text = row.model_dump_json().replace(f'"schema_version":{SCHEMA_VERSION}', '"schema_version":999')
    with pytest.raises(ValidationError, match="schema_version"):
        kind.model_validate_json(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "train", "step": "3", "values": {}}',
        '{"kind": "train", "step": 3, "values": {"loss": "low"}}',
        '{"kind": "other", "step": 3, "values": {}}',
        '{"kind": "train", "values": {}}',
        "{",
    ],
)
def test_metric_row_malformed_is_refused(text: str) -> None:
    """Wrong types are not guessed at."""
    with pytest.raises(ValidationError):
        MetricRow.model_validate_json(text)


@pytest.mark.parametrize("factor", [0.0, -1.0, 10.5, math.inf, math.nan])
def test_control_request_factor_out_of_range_is_refused(factor: float) -> None:
    """A slip of the finger does not ruin a run."""
    with pytest.raises(ValidationError, match="lr_factor"):
        ControlRequest(action="set_lr_factor", lr_factor=factor)


@pytest.mark.parametrize(("action", "factor"), [("set_lr_factor", None), ("save", 0.5)])
def test_control_request_factor_without_its_action_is_refused(action: Any, factor: float | None) -> None:
    """A factor that nobody asked for would be obeyed or lost in silence."""
    with pytest.raises(ValidationError, match="lr_factor goes with set_lr_factor and with nothing else"):
        ControlRequest(action=action, lr_factor=factor)


def test_row_is_frozen() -> None:
    """A row that was handed on does not change."""
    with pytest.raises(ValidationError, match="frozen"):
        ROWS[0].step = 4  # type: ignore[attr-defined]


def test_complaint_is_one_line_with_the_place() -> None:
    """Of many problems the first is named; errors of other kinds keep their text."""
    with pytest.raises(ValidationError) as caught:
        MetricRow.model_validate_json('{"kind": "train", "values": {"loss": "low"}}')
    assert complaint(caught.value) == "step: Field required"
    with pytest.raises(ValidationError) as caught:
        MetricRow.model_validate_json("{")
    assert complaint(caught.value).startswith("Invalid JSON: EOF while parsing")
    assert complaint(ValueError("other")) == "other"
