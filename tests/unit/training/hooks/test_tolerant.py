"""Watching never hurts: a hook may fail as it likes."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.core.atomic import read_lines
from ml_playground.core.foreign_files import DEEPEST_JSON, json_table
from ml_playground.core.run_schema import Event
from ml_playground.core.values import NOTHING, Action, Wish
from ml_playground.training.hook_protocols import HookContext
from ml_playground.training.hooks.tolerant import MOST_STATE_BYTES, Tolerant
from tests.fakes.hooks import FailingHook, NonsenseHook, Told, event, hook_context, progress


def failures_of(context: HookContext) -> list[Event]:
    """The events of failed hooks."""
    events = [Event.model_validate_json(line) for line in read_lines(context.run.events)]
    return [event for event in events if event.kind == "hook_failed"]


def test_every_method_hook_fails_nothing_escapes(tmp_path: Path) -> None:
    """Each of the seven methods is survived."""
    tolerant = Tolerant(FailingHook(), "dashboard", hook_context(tmp_path), Told())
    tolerant.load_state_dict({"steps": 1})
    tolerant.on_start(progress(0))
    assert tolerant.on_step(event(1)) == NOTHING
    assert tolerant.on_evaluation(progress(1), {"loss": 1.0}) == NOTHING
    tolerant.on_saved(progress(1), "step_000001")
    assert tolerant.state_dict() == {"steps": 1}
    tolerant.on_end(progress(1), "completed", None)
    assert not tolerant.switched_off


def test_on_step_three_failures_in_a_row_switches_off_and_says_so(tmp_path: Path) -> None:
    """What fails three times will fail a million times; its user hears of it twice, not a million times."""
    context, told, hook = hook_context(tmp_path), Told(), FailingHook()
    tolerant = Tolerant(hook, "dashboard", context, told)
    for step in range(1, 10):
        assert tolerant.on_step(event(step)) == NOTHING
    assert hook.steps == 3
    assert tolerant.switched_off
    assert told == [
        "hook 'dashboard' failed in on_step, training goes on: RuntimeError: no such dashboard",
        "hook 'dashboard' is switched off after 3 failures in a row",
    ]
    assert [(failure.step, failure.data["switched_off"]) for failure in failures_of(context)] == [
        (1, False),
        (2, False),
        (3, True),
    ]
    assert failures_of(context)[0].data["reason"] == "RuntimeError: no such dashboard"


def test_on_step_success_between_failures_stays_on(tmp_path: Path) -> None:
    """Only failures in a row count: a dashboard that was restarted is welcome back."""
    hook = FailingHook()
    tolerant = Tolerant(hook, "dashboard", hook_context(tmp_path), Told())
    for step in range(1, 10):
        hook.broken = step % 3 != 0
        tolerant.on_step(event(step))
    assert hook.steps == 9
    assert not tolerant.switched_off


@pytest.mark.parametrize(
    "answer",
    [None, True, "stop", {}, Action.SAVE, Wish(lr_factor=float("nan")), Wish(lr_factor=-1.0), Wish(lr_factor=0)],
)
def test_on_step_answer_is_nonsense_counts_as_failure(tmp_path: Path, answer: Any) -> None:
    """A wrong answer must not reach the loop, which would obey it or break."""
    context = hook_context(tmp_path)
    tolerant = Tolerant(NonsenseHook(answer), "odd", context, Told())
    assert tolerant.on_step(event(1)) == NOTHING
    assert tolerant.on_evaluation(progress(1), {}) == NOTHING
    reasons = [failure.data["reason"] for failure in failures_of(context)]
    assert (
        reasons == [f"TypeError: a hook must answer with a Wish, got {answer!r}; return NOTHING when there is none"] * 2
    )


@pytest.mark.parametrize("wish", [NOTHING, Wish(Action.SAVE), Wish(Action.EVALUATE, 0.5), Wish(lr_factor=2)])
def test_on_step_answer_is_a_wish_passes_unchanged(tmp_path: Path, wish: Wish) -> None:
    """Tolerance must not eat what is sound."""
    tolerant = Tolerant(NonsenseHook(wish), "fine", hook_context(tmp_path), Told())
    assert tolerant.on_step(event(1)) == wish


NESTED = {"nested": json.loads("[" * 60 + "]" * 60)}


@pytest.mark.parametrize("state", [None, [1], {"path": Path()}, NESTED])
def test_state_dict_state_is_no_json_gives_the_last_sound_one(tmp_path: Path, state: Any) -> None:
    """One hook's odd state must not make a checkpoint impossible."""
    tolerant = Tolerant(NonsenseHook(state), "odd", hook_context(tmp_path), Told())
    assert tolerant.state_dict() == {}


def test_state_dict_hook_switched_off_keeps_its_state(tmp_path: Path) -> None:
    """What a hook remembered until it failed goes into the checkpoint still."""
    hook = FailingHook()
    tolerant = Tolerant(hook, "dashboard", hook_context(tmp_path), Told())
    hook.broken = False
    tolerant.on_step(event(1))
    assert tolerant.state_dict() == {"steps": 1}
    hook.broken = True
    for step in range(2, 6):
        tolerant.on_step(event(step))
    assert tolerant.state_dict() == {"steps": 1}


def test_on_step_interrupt_is_no_failure_and_passes(tmp_path: Path) -> None:
    """Ctrl-C inside a hook is meant for the run."""
    tolerant = Tolerant(FailingHook(KeyboardInterrupt()), "dashboard", hook_context(tmp_path), Told())
    with pytest.raises(KeyboardInterrupt):
        tolerant.on_step(event(1))


def test_on_step_terminal_closed_too_run_goes_on(tmp_path: Path) -> None:
    """The complaint itself may fail: stderr of a closed terminal."""

    def closed(text: str) -> None:
        raise BrokenPipeError(text)

    tolerant = Tolerant(FailingHook(), "dashboard", hook_context(tmp_path), closed)
    assert tolerant.on_step(event(1)) == NOTHING
    assert tolerant.switched_off


def test_state_dict_is_what_the_hook_remembered_then(tmp_path: Path) -> None:
    """A checkpoint is written while a hook beside the training may be changing what it answered with."""
    live: dict[str, Any] = {"seen": [1]}
    state = Tolerant(NonsenseHook(live), "watcher", hook_context(tmp_path)).state_dict()
    live["seen"].append(2)
    live["more"] = object()
    assert state == {"seen": [1]}


def test_state_dict_too_large_for_a_checkpoint_is_said_once_and_the_last_sound_one_kept(tmp_path: Path) -> None:
    """It would be written, and no run could be resumed from it."""
    live: dict[str, Any] = {"seen": "few"}
    told = Told()
    tolerant = Tolerant(NonsenseHook(live), "hoarder", hook_context(tmp_path), told)
    tolerant.state_dict()
    live["seen"] = "x" * MOST_STATE_BYTES
    assert tolerant.state_dict() == tolerant.state_dict() == {"seen": "few"}
    (line,) = told
    assert line == (
        "hook 'hoarder' failed in state_dict, training goes on: ValueError: its state takes 4.2 MB, and a checkpoint holds "
        "4.2 MB of a hook; what is larger belongs into a file"
    )


@given(st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_state_dict_that_is_taken_can_be_read_from_the_file_of_all_hooks(levels: int) -> None:
    """Where it lies a level deeper: what a checkpoint takes a resume reads, to the last level."""
    with TemporaryDirectory() as folder:
        state = {"nested": json.loads("[" * levels + "]" * levels)}
        kept = Tolerant(NonsenseHook(state), "deep", hook_context(Path(folder)), Told()).state_dict()
    assert kept == (state if levels <= DEEPEST_JSON - 2 else {})
    assert json_table(json.dumps({"deep": kept})) == {"deep": kept}
