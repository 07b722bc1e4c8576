"""Run folders are read as they are: half written, damaged, of another version."""

import math
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from filelock import FileLock

from ml_playground.core.error_handling import RunError
from ml_playground.core.run_folder import runs_folder
from ml_playground.monitoring.reader import Curve, is_held, list_runs, read_config, read_result, read_run, read_status
from tests.fakes.run_folder import (
    CONFIG,
    bare_run,
    held,
    put_drawn,
    put_event,
    put_result,
    put_rows,
    put_sample,
    put_status,
)


def test_read_run_bare_folder_is_empty_and_no_error() -> None:
    """A viewer may look before the run has said a word."""
    view = read_run(bare_run())
    assert (view.state, view.status, view.result) == ("not started", None, None)
    assert (view.train, view.evaluation, view.environment) == ({}, {}, {})
    assert not (view.events or view.live_samples or view.final_samples or view.unreadable_lines)
    assert view.config == CONFIG


def test_read_run_whole_folder_gives_all() -> None:
    """Rows become curves; timing lies beside the values."""
    run = bare_run()
    put_status(run)
    put_rows(run, 20)
    put_event(run, "started", pid=1)
    put_sample(run, 10, "or not")
    put_drawn(run, "that is", "final.json")
    (run.samples / "more.txt").write_text("the question")
    (run.samples / "picture.png").write_bytes(b"")
    for name in ("folder.json", "folder.txt"):
        (run.samples / name).mkdir()
    run.environment.write_text('{"python": "3.11"}')
    view = read_run(run)
    assert view.train["loss"] == Curve(list(range(1, 21)), [8 / step for step in range(1, 21)])
    assert view.train["targets_per_s"] == Curve([10, 20], [128.0, 128.0])
    assert view.evaluation["loss"] == Curve([10, 20], [0.9, 0.45])
    assert view.evaluation["bits_per_byte"].values == [1.5, 1.5]
    assert [event.kind for event in view.events] == ["started"]
    assert [(sample.step, sample.prompt, sample.text) for sample in view.live_samples] == [(10, "To be", "or not")]
    assert [(name, samples[0].text) for name, samples in view.final_samples.items()] == [
        ("final.json", "that is"),
        ("more.txt", "the question"),
    ]
    assert view.environment == {"python": "3.11"}


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"texts": "odd"}', '{"texts": [1, {"text": 2}, {"prompt": 3, "text": ""}]}']
)
def test_read_run_samples_of_another_form_are_empty(text: str) -> None:
    """A file of a user's own in samples/ is none of ours."""
    run = bare_run()
    run.samples.mkdir()
    (run.samples / "own.json").write_text(text)
    assert read_run(run).final_samples == {"own.json": []}


def test_read_run_torn_last_line_is_left_out() -> None:
    """The writer may be in the middle of it."""
    run = bare_run()
    put_rows(run, 3)
    with run.metrics.open("a") as stream:
        stream.write('{"kind": "train", "step": 4, "val')
    view = read_run(run)
    assert view.train["loss"].steps == [1, 2, 3]
    assert view.unreadable_lines == 0


def test_read_run_damaged_lines_are_counted_and_hide_nothing() -> None:
    """One bad line must not cost the others; it is not passed over in silence either."""
    run = bare_run()
    for path in (run.metrics, run.events, run.samples / "live.jsonl"):
        path.parent.mkdir(exist_ok=True)
        path.write_text('nonsense\n[1]\n{"kind": "train", "step": "4"}\n')
    run.metrics.write_text(
        run.metrics.read_text()
        + '{"kind": "train", "step": 5, "values": {"loss": NaN}}\n'
        + '{"kind": "train", "step": 6, "values": {"loss": 1.0, "odd": "x"}}\n'
        + '{"kind": "test", "step": 7, "values": {"loss": 1.0}}\n'
    )
    put_sample(run, 5, "fine")
    put_event(run, "started")
    view = read_run(run)
    assert (view.train["loss"].steps, math.isnan(view.train["loss"].values[0])) == ([5], True)
    assert "odd" not in view.train
    assert view.evaluation == {}
    assert len(view.live_samples) == len(view.events) == 1
    assert view.unreadable_lines == 11


@pytest.mark.parametrize("name", ["status", "result"])
def test_read_another_schema_version_names_file_and_versions(name: str) -> None:
    """A newer program may have written it; guessing would show wrong numbers."""
    run = bare_run()
    path = getattr(run, name)
    path.write_text('{"schema_version": 2}')
    with pytest.raises(RunError) as caught:
        read_run(run)
    assert str(caught.value) == (
        f"{path} has schema version 2, this program reads version 1; "
        "it was written by another version: pip install --upgrade ml-playground"
    )


def test_read_run_event_of_another_schema_version_is_refused() -> None:
    """Events as well."""
    run = bare_run()
    run.events.write_text('{"schema_version": 7, "kind": "started"}\n')
    with pytest.raises(RunError, match=r"events\.jsonl has schema version 7, this program reads version 1"):
        read_run(run)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "Expecting property name"),
        ("[]", "Input should be an object"),
        ('{"state": "odd"}', "run: Field required"),
    ],
)
def test_read_status_damaged_says_what_to_do(text: str, complaint: str) -> None:
    """What, where, and how to get rid of it."""
    run = bare_run()
    run.status.write_text(text)
    with pytest.raises(RunError) as caught:
        read_status(run)
    message = str(caught.value)
    assert message.startswith(f"{run.status} is not what a run writes there: {complaint}")
    assert message.endswith("; delete it, the run writes a new one when it goes on")


def test_read_config_damaged_names_the_file() -> None:
    """The job itself is the one file that cannot be made up for; each checkpoint has a copy."""
    run = bare_run()
    run.config.write_text("{")
    with pytest.raises(RunError, match=r"config\.json is damaged: .*; restore it from a copy, or delete it"):
        read_config(run)


def test_read_config_no_object_is_empty() -> None:
    """Nothing to show, and no crash."""
    run = bare_run()
    run.config.write_text("[]")
    assert read_config(run) == {}


@pytest.mark.parametrize(
    ("status", "result", "locked", "state"),
    [
        (None, None, False, "not started"),
        (None, None, True, "starting"),
        ({"state": "training"}, None, True, "training"),
        ({"state": "evaluating"}, None, True, "evaluating"),
        ({"state": "training"}, None, False, "interrupted"),
        ({"state": "ended", "reason": "completed"}, None, False, "interrupted"),
        ({"state": "ended", "reason": "paused"}, None, True, "starting"),
        ({"state": "ended", "reason": "paused"}, {"reason": "paused"}, False, "paused"),
        ({"state": "failed"}, {"reason": "out_of_memory"}, False, "out_of_memory"),
        ({"state": "failed"}, None, False, "failed"),
        (None, {"reason": "completed"}, False, "completed"),
    ],
)
def test_state_of_lock_and_last_words_decide(
    status: dict[str, Any] | None, result: dict[str, Any] | None, locked: bool, state: str
) -> None:
    """A killed process leaves "training" behind; only its lock tells that it is gone."""
    run = bare_run()
    if status is not None:
        put_status(run, **status)
    if result is not None:
        put_result(run, **result)
    if locked:
        with held(run):
            assert read_run(run).state == state
    else:
        assert read_run(run).state == state


def test_is_held_by_another_process_until_it_is_killed() -> None:
    """The lock that the engine takes, in a process of its own; kill -9 gives it back."""
    run = bare_run()
    code = (
        "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]).acquire(); "
        "print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(run.lock)], stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline() if process.stdout else ""
        held_while_it_lived = is_held(run)
        process.kill()
    assert (said, held_while_it_lived, is_held(run)) == ("held\n", True, False)


def test_is_held_looking_does_not_take_the_lock() -> None:
    """A viewer must never keep a run from starting."""
    run = bare_run()
    run.lock.touch()
    assert not is_held(run)
    with FileLock(run.lock, blocking=False):
        assert is_held(run)


def test_is_held_lock_cannot_be_opened_is_not_held() -> None:
    """A folder of that name: no process can hold it."""
    run = bare_run()
    run.lock.mkdir()
    assert not is_held(run)


def test_list_runs_one_unreadable_does_not_hide_the_others() -> None:
    """Newest first; the problem is told in its line."""
    older = bare_run("a", "20260101-000000-aaaa")
    put_status(older)
    broken = bare_run("b", "20260102-000000-bbbb")
    broken.status.write_text("{")
    odd = bare_run("a", "imported")
    first, second, third = list_runs(runs_folder())
    assert (first.run, first.state, first.started) == (odd, "not started", None)
    assert (second.run, second.state, second.status) == (broken, "unreadable", None)
    assert "is not what a run writes there" in second.problem
    assert (third.run, third.state, third.started) == (older, "interrupted", datetime(2026, 1, 1, tzinfo=UTC))
    assert [summary.run for summary in list_runs(runs_folder(), "b")] == [broken]


def test_read_result_gives_the_reason() -> None:
    """What the queue will act on."""
    run = bare_run()
    put_result(run, reason="nan", message="at step 7")
    result = read_result(run)
    assert result is not None
    assert (result.reason, result.message) == ("nan", "at step 7")
