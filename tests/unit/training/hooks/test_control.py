"""Files that steer a run."""

from pathlib import Path

import pytest

from ml_playground.core.atomic import read_lines, write_file
from ml_playground.core.run_schema import ControlRequest, Event
from ml_playground.core.values import NOTHING, Action, Wish
from ml_playground.training.hook_protocols import HookContext
from ml_playground.training.hooks.control import ControlHook, build, drop_requests
from ml_playground.training.hooks.records import EventLog
from ml_playground.training.settings import Control
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.hooks import Told, event, hook_context, progress

EACH_STEP = Control(every_seconds=0)


def put(context: HookContext, name: str, text: str) -> Path:
    """A file in control/."""
    context.run.control.mkdir(exist_ok=True)
    path = context.run.control / name
    path.write_text(text)
    return path


def kinds_of(context: HookContext) -> list[str]:
    """Kinds of the events so far."""
    return [Event.model_validate_json(line).kind for line in read_lines(context.run.events)]


@pytest.mark.parametrize(
    ("request_text", "wish"),
    [
        ('{"action": "pause"}', Wish(Action.PAUSE)),
        ('{"action": "stop"}', Wish(Action.FINISH)),
        ('{"action": "save"}', Wish(Action.SAVE)),
        ('{"action": "evaluate"}', Wish(Action.EVALUATE)),
        ('{"action": "set_lr_factor", "lr_factor": 0.5}', Wish(lr_factor=0.5)),
    ],
)
def test_on_step_request_becomes_a_wish_once(tmp_path: Path, request_text: str, wish: Wish) -> None:
    """Obeyed, recorded, and gone."""
    context = hook_context(tmp_path)
    hook = build(EACH_STEP, context)
    path = put(context, "a.json", request_text)
    assert hook.on_step(event(1)) == wish
    assert hook.on_step(event(2)) == NOTHING
    assert not path.exists()
    assert kinds_of(context) == ["control"]


def test_on_step_several_requests_are_taken_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Names begin with the time; the later factor counts."""
    context = hook_context(tmp_path)
    put(context, "2.json", ControlRequest(action="set_lr_factor", lr_factor=0.25).model_dump_json())
    put(context, "1.json", ControlRequest(action="set_lr_factor", lr_factor=0.5).model_dump_json())
    put(context, "3.json", ControlRequest(action="save").model_dump_json())
    assert build(EACH_STEP, context).on_step(event(1)) == Wish(Action.SAVE, 0.25)


def test_on_step_within_every_seconds_looks_once(tmp_path: Path) -> None:
    """A look costs a system call; the step must not pay it."""
    clock = FixedClock()
    context = hook_context(tmp_path, clock=clock)
    hook = build(Control(every_seconds=0.5), context)
    assert hook.on_step(event(1)) == NOTHING
    put(context, "a.json", '{"action": "save"}')
    assert hook.on_step(event(2)) == NOTHING
    clock.advance(0.5)
    assert hook.on_step(event(3)) == Wish(Action.SAVE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Invalid JSON"),
        ('{"action": "explode"}', "action: Input should be"),
        ('{"action": "pause", "schema_version": 2}', "schema_version: Input should be 1"),
        ('{"action": "set_lr_factor", "lr_factor": -1}', "lr_factor: Input should be greater than 0"),
        ("\udcff", "Invalid JSON"),
    ],
)
def test_on_step_malformed_request_is_moved_aside_and_told(tmp_path: Path, text: str, reason: str) -> None:
    """Neither obeyed nor lost, and the run goes on."""
    context, told = hook_context(tmp_path), Told()
    hook = ControlHook(EACH_STEP, context, told)
    path = put(context, "a.json", "")
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert hook.on_step(event(1)) == NOTHING
    assert hook.on_step(event(2)) == NOTHING
    assert [entry.name for entry in context.run.control.iterdir()] == ["a.json.rejected"]
    assert len(told) == 1
    assert told[0].startswith(f"a request to control the run is malformed and was moved to {path}.rejected: {reason}")
    assert kinds_of(context) == ["control_rejected"]


def test_on_step_files_still_being_written_are_left_alone(tmp_path: Path) -> None:
    """Only what has its final name is complete."""
    context = hook_context(tmp_path)
    put(context, ".a.json.partial", '{"action": "stop"}')
    put(context, ".b.json", '{"action": "stop"}')
    put(context, "c.json.rejected", '{"action": "stop"}')
    assert build(EACH_STEP, context).on_step(event(1)) == NOTHING
    assert len(list(context.run.control.iterdir())) == 3


def test_on_step_request_cannot_be_removed_is_ignored_and_told_once(tmp_path: Path) -> None:
    """Obeying it at every look would pause the run again and again. A folder of that name stands for any such file."""
    context, told = hook_context(tmp_path), Told()
    path = context.run.control / "a.json"
    path.mkdir(parents=True)
    hook = ControlHook(EACH_STEP, context, told)
    assert hook.on_step(event(1)) == NOTHING
    assert hook.on_step(event(2)) == NOTHING
    assert len(told) == 1
    assert told[0].startswith(f"the request {path} cannot be read or removed and is ignored: ")


def test_on_step_malformed_request_cannot_be_moved_is_ignored(tmp_path: Path) -> None:
    """The way aside may be blocked too."""
    context, told = hook_context(tmp_path), Told()
    put(context, "a.json", "{")
    (context.run.control / "a.json.rejected").mkdir()
    hook = ControlHook(EACH_STEP, context, told)
    hook.on_step(event(1))
    hook.on_step(event(2))
    assert len(told) == 1


def test_on_step_sample_asks_the_board(tmp_path: Path) -> None:
    """The control hook knows no model; the samples hook answers."""
    context = hook_context(tmp_path)
    context.board.draws_samples = True
    put(context, "a.json", '{"action": "sample"}')
    assert build(EACH_STEP, context).on_step(event(1)) == NOTHING
    assert context.board.sample_wanted


def test_on_step_sample_without_a_samples_hook_is_refused_in_words(tmp_path: Path) -> None:
    """What cannot be done is said, not dropped."""
    context, told = hook_context(tmp_path), Told()
    put(context, "a.json", '{"action": "sample"}')
    ControlHook(EACH_STEP, context, told).on_step(event(1))
    assert not context.board.sample_wanted
    assert told == ["asked for a sample, but the run has no samples hook"]


def test_drop_requests_of_an_earlier_process_are_gone_before_the_first_step(tmp_path: Path) -> None:
    """A pause that came as the process was killed must not pause the next one."""
    context, told = hook_context(tmp_path), Told()
    put(context, "a.json", '{"action": "pause"}')
    drop_requests(context.run, EventLog(context.run, context.clock), 0, told)
    assert build(EACH_STEP, context).on_step(event(6)) == NOTHING
    assert told == ["the request a.json came when no process was training; it is dropped, ask again"]
    assert kinds_of(context) == ["control_dropped"]


def test_on_end_late_request_is_dropped_and_told(tmp_path: Path) -> None:
    """Asked between the last look and the end."""
    context, told = hook_context(tmp_path), Told()
    put(context, "a.json", '{"action": "save"}')
    (context.run.control / "b.json").mkdir()
    ControlHook(EACH_STEP, context, told).on_end(progress(60), "completed", None)
    assert kinds_of(context) == ["control_dropped"]
    assert "cannot be read or removed and are ignored" in told[-1]
    assert not (context.run.control / "a.json").exists()


def test_steering_is_true() -> None:
    """A run that no longer listens must not look as if it did."""
    assert ControlHook.steering


def test_on_end_of_a_run_that_goes_on_keeps_what_was_asked(tmp_path: Path) -> None:
    """The hook that is built anew finds it; only what comes after an end is dropped."""
    context = hook_context(tmp_path)
    hook = ControlHook(Control(), context, Told())
    request = context.run.control / "1.json"
    write_file(request, '{"action": "pause"}')
    hook.on_end(progress(5), None, None)
    assert request.exists()
    hook.on_end(progress(5), "completed", None)
    assert not request.exists()


@pytest.mark.parametrize("action", ["pause", "stop", "save"])
def test_on_end_of_a_run_that_goes_back_what_was_taken_is_asked_again(tmp_path: Path, action: str) -> None:
    """Its step is undone before it was obeyed; whoever asked for it is not told to ask twice."""
    context = hook_context(tmp_path)
    path = put(context, "a.json", f'{{"action": "{action}"}}')
    hook = build(EACH_STEP, context)
    wish = hook.on_step(event(1))
    hook.on_end(progress(5), None, None)
    assert path.exists()
    assert build(EACH_STEP, context).on_step(event(1)) == wish


def test_on_end_of_a_run_that_goes_back_what_is_done_is_not_asked_again(tmp_path: Path) -> None:
    """A save that was had, and what the journal does again with its step."""
    context = hook_context(tmp_path)
    put(context, "a.json", '{"action": "save"}')
    put(context, "b.json", '{"action": "evaluate"}')
    hook = build(EACH_STEP, context)
    hook.on_step(event(1))
    hook.on_saved(progress(2), "step_000002")
    hook.on_end(progress(5), None, None)
    assert list(context.run.control.iterdir()) == []


def test_on_end_of_a_run_that_goes_back_request_cannot_be_kept_is_told(tmp_path: Path) -> None:
    """A disk that is full, or a folder in the way, must not lose it in silence."""
    context, told = hook_context(tmp_path), Told()
    path = put(context, "a.json", '{"action": "pause"}')
    hook = ControlHook(EACH_STEP, context, told)
    hook.on_step(event(1))
    path.mkdir()
    hook.on_end(progress(5), None, None)
    assert told[0].startswith("the request to pause is lost, for its step is undone; ask again: ")
