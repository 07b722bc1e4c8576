"""metrics.jsonl holds each step once; events.jsonl what happened once."""

from dataclasses import replace
from pathlib import Path

import pytest

from ml_playground.core.atomic import append_lines, read_lines
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import Event, MetricRow
from ml_playground.training.hooks.jsonl_metrics import JsonlMetricsHook, build
from ml_playground.training.settings import JsonlMetrics
from tests.fakes.hooks import Told, event, hook_context, progress


def rows_of(run: RunFolder) -> list[MetricRow]:
    """The rows as their readers see them."""
    return [MetricRow.model_validate_json(line) for line in read_lines(run.metrics)]


def events_of(run: RunFolder) -> list[Event]:
    """The events as their readers see them."""
    return [Event.model_validate_json(line) for line in read_lines(run.events)]


def test_on_step_readings_become_rows_and_only_the_last_has_timing(tmp_path: Path) -> None:
    """The clock is read once an interval, so a time on every row would be made up."""
    context = hook_context(tmp_path)
    hook = build(JsonlMetrics(), context)
    hook.on_start(progress(0))
    hook.on_step(event(1))
    hook.on_step(event(2, [3.0, 2.5]))
    assert rows_of(context.run) == [
        MetricRow(kind="train", step=1, values={"loss": 3.0, "grad_norm": 0.5, "lr": 1e-3, "targets": 64.0}),
        MetricRow(
            kind="train",
            step=2,
            values={"loss": 2.5, "grad_norm": 0.5, "lr": 1e-3, "targets": 64.0},
            timing={"elapsed_s": 1.0, "targets_per_s": 128.0},
        ),
    ]


def test_on_step_loss_is_exact_to_the_last_bit_and_may_be_nan(tmp_path: Path) -> None:
    """Equality of runs is asked of these numbers; a loss that is no number is the most interesting row of all."""
    context = hook_context(tmp_path)
    hook = build(JsonlMetrics(), context)
    hook.on_step(event(2, [0.1 + 0.2, float("nan")], targets_per_s=None))
    first, second = rows_of(context.run)
    assert first.values["loss"] == 0.1 + 0.2
    assert second.values["loss"] != second.values["loss"]
    assert second.timing == {"elapsed_s": 1.0}


def test_on_evaluation_becomes_a_row(tmp_path: Path) -> None:
    """All that the objective measures, under its own names."""
    context = hook_context(tmp_path)
    build(JsonlMetrics(), context).on_evaluation(progress(20), {"loss": 2.0, "accuracy": 0.5})
    assert rows_of(context.run) == [
        MetricRow(kind="evaluation", step=20, values={"loss": 2.0, "accuracy": 0.5}, timing={"elapsed_s": 10.0})
    ]


def test_on_start_resumed_cuts_back_to_its_first_step_and_notes_it(tmp_path: Path) -> None:
    """Steps after the checkpoint are computed again, so their old rows would be there twice."""
    context = hook_context(tmp_path)
    before = build(JsonlMetrics(), context)
    before.on_start(progress(0))
    before.on_step(event(10, [3.0] * 10))
    before.on_evaluation(progress(10), {"loss": 3.0})
    append_lines(context.run.metrics, ["damaged"])
    resumed = build(JsonlMetrics(), replace(context, first_step=4))
    resumed.on_start(progress(4))
    resumed.on_step(event(10, [3.0] * 6))
    assert [(row.kind, row.step) for row in rows_of(context.run)] == [("train", step) for step in range(1, 11)]
    assert [(e.kind, e.step) for e in events_of(context.run)] == [
        ("started", 0),
        ("rows_dropped", 4),
        ("resumed", 4),
    ]
    assert events_of(context.run)[1].data == {"file": "metrics.jsonl", "rows": 8}
    assert events_of(context.run)[0].data["parameters"] == "1,234"


def test_on_start_killed_before_the_first_checkpoint_begins_with_no_rows(tmp_path: Path) -> None:
    """Starting again at step 0 computes everything again, an evaluation at step 0 among it."""
    context = hook_context(tmp_path)
    before = build(JsonlMetrics(), context)
    before.on_evaluation(progress(0), {"loss": 5.0})
    before.on_step(event(2, [3.0, 3.0]))
    build(JsonlMetrics(), context).on_start(progress(0))
    assert rows_of(context.run) == []


def test_on_saved_and_on_end_become_events(tmp_path: Path) -> None:
    """A viewer sees from the events alone how a run went."""
    context = hook_context(tmp_path)
    hook = build(JsonlMetrics(), context)
    hook.on_saved(progress(7), "checkpoints/step_000007")
    hook.on_end(progress(9), "paused", None)
    hook.on_end(progress(9), None, ValueError("odd"))
    assert [(e.kind, e.step, e.data) for e in events_of(context.run)] == [
        ("saved", 7, {"reference": "checkpoints/step_000007"}),
        ("ended", 9, {"reason": "paused"}),
        ("failed", 9, {"error": "ValueError: odd"}),
    ]


def test_on_end_rows_could_not_be_written_are_tried_once_more(tmp_path: Path) -> None:
    """The last chance of what a full disk held back."""
    context, told = hook_context(tmp_path), Told()
    hook = JsonlMetricsHook(context, told)
    context.run.metrics.mkdir()
    hook.on_step(event(1, [3.0]))
    context.run.metrics.rmdir()
    hook.on_end(progress(1), "completed", None)
    assert [row.step for row in rows_of(context.run)] == [1]
    assert len(told) == 2


@pytest.mark.parametrize("first_step", [0, 5])
def test_on_start_no_rows_yet_drops_nothing(tmp_path: Path, first_step: int) -> None:
    """Nothing dropped, nothing noted."""
    context = hook_context(tmp_path, first_step=first_step)
    build(JsonlMetrics(), context).on_start(progress(first_step))
    assert [e.kind for e in events_of(context.run)] == ["resumed" if first_step else "started"]


def test_on_end_without_reason_or_error_notes_no_end(tmp_path: Path) -> None:
    """The run goes on by itself; that it went back is noted by the loop."""
    context = hook_context(tmp_path)
    build(JsonlMetrics(), context).on_end(progress(5), None, None)
    assert read_lines(context.run.events) == []


def test_on_start_with_an_evaluation_owed_drops_the_one_of_its_step_alone(tmp_path: Path) -> None:
    """A process that was killed after it had made it up has left its row, and it is made again."""
    context = replace(hook_context(tmp_path), first_step=20, owes_evaluation=True)
    first = build(JsonlMetrics(), hook_context(tmp_path))
    for step in (10, 20, 21):
        first.on_step(event(step, [2.0]))
        first.on_evaluation(progress(step), {"loss": 3.0})
    build(JsonlMetrics(), context).on_start(progress(20))
    assert [(row.kind, row.step) for row in rows_of(context.run)] == [
        ("train", 10),
        ("evaluation", 10),
        ("train", 20),
    ]
