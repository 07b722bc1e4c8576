"""status.json is valid at every instant, and says what is."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from ml_playground.configuration.loading import load
from ml_playground.core.run_schema import Reason, Status
from ml_playground.training.hook_protocols import HookContext
from ml_playground.training.hooks.status import StatusHook, build
from ml_playground.training.settings import StatusFile
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.hooks import Told, event, hook_context, progress


def status_of(context: HookContext) -> Status:
    """The file as its readers see it."""
    return Status.model_validate_json(context.run.status.read_bytes())


def test_life_of_a_run_each_state_is_seen(tmp_path: Path) -> None:
    """From the first moment to the last, with the numbers known by then."""
    clock = FixedClock()
    context = hook_context(tmp_path, clock=clock)
    hook = build(StatusFile(), context)
    hook.on_start(progress(0))
    assert (status_of(context).state, status_of(context).step) == ("starting", 0)
    hook.on_step(event(1))
    assert (status_of(context).state, status_of(context).step) == ("training", 1)
    clock.advance(10)
    hook.on_step(event(10, [3.0, 2.0]))
    clock.advance(10)
    hook.on_step(event(20, [2.0, 1.0]))
    status = status_of(context)
    assert (status.state, status.loss, status.targets_per_s, status.eta_s) == ("evaluating", 1.5, 128.0, 40.0)
    hook.on_evaluation(progress(20), {"loss": 2.5})
    status = status_of(context)
    assert (status.state, status.validation_loss, status.best_validation_loss) == ("training", 2.5, 2.5)
    hook.on_saved(progress(20), "step_000020")
    assert status_of(context).saved_step == 20
    hook.on_end(progress(20), "paused", None)
    status = status_of(context)
    assert (status.state, status.reason, status.eta_s, status.run) == ("ended", "paused", None, context.run.id)


def test_on_step_within_every_seconds_writes_once(tmp_path: Path) -> None:
    """Thousands of steps a second, one write."""
    clock = FixedClock()
    context = hook_context(tmp_path, clock=clock)
    hook = build(StatusFile(every_seconds=1.0), context)
    hook.on_step(event(1))
    hook.on_step(event(2))
    assert status_of(context).step == 1
    clock.advance(1.0)
    hook.on_step(event(3))
    assert status_of(context).step == 3


@pytest.mark.parametrize(("losses", "best"), [([2.0, 3.0], 2.0), ([math.nan, 3.0], 3.0), ([3.0, math.nan, 2.0], 2.0)])
def test_on_evaluation_best_is_the_lowest_number(tmp_path: Path, losses: list[float], best: float) -> None:
    """A loss that is no number is never the best."""
    context = hook_context(tmp_path)
    hook = build(StatusFile(), context)
    for loss in losses:
        hook.on_evaluation(progress(20), {"loss": loss})
    hook.on_evaluation(progress(20), {"accuracy": 1.0})
    assert status_of(context).best_validation_loss == best


def test_on_evaluation_best_is_by_what_checkpoints_are_compared_by(tmp_path: Path) -> None:
    """Of a share of right answers the highest, named; also after a resume."""
    context = hook_context(tmp_path, job=load("digits").job)
    hook = build(StatusFile(), context)
    for accuracy in (0.5, 0.75, math.nan, 0.25):
        hook.on_evaluation(progress(20), {"loss": 1 - accuracy, "accuracy": accuracy})
    status = status_of(context)
    assert (status.best, status.best_metric, status.best_validation_loss) == (0.75, "accuracy", 0.25)
    again = build(StatusFile(), context)
    again.load_state_dict(hook.state_dict())
    again.on_evaluation(progress(40), {"loss": 0.1, "accuracy": 0.6})
    assert status_of(context).best == 0.75


def test_state_of_an_earlier_version_keeps_its_lowest_loss(tmp_path: Path) -> None:
    """Which was the best of every run."""
    context = hook_context(tmp_path)
    hook = build(StatusFile(), context)
    hook.load_state_dict({"loss": 2.0, "validation_loss": 1.8, "best": 1.5})
    hook.on_evaluation(progress(40), {"loss": 1.7})
    assert (status_of(context).best, status_of(context).best_metric) == (1.5, "loss")


def test_on_end_error_is_told(tmp_path: Path) -> None:
    """Failed, with the reason in words."""
    context = hook_context(tmp_path)
    build(StatusFile(), context).on_end(progress(3), None, ValueError("odd"))
    assert (status_of(context).state, status_of(context).message) == ("failed", "ValueError: odd")


def test_on_end_second_ctrl_c_leaves_the_last_state(tmp_path: Path) -> None:
    """The run is interrupted, which its free lock says; it has not failed."""
    context = hook_context(tmp_path)
    hook = build(StatusFile(), context)
    hook.on_start(progress(0))
    hook.on_end(progress(3), None, KeyboardInterrupt())
    assert status_of(context).state in ("starting", "training")


@pytest.mark.parametrize("reason", ["completed", "stopped_early", "paused", "nan"])
def test_on_end_reason_is_told(tmp_path: Path, reason: Reason) -> None:
    """Each way to leave the loop."""
    context = hook_context(tmp_path)
    build(StatusFile(), context).on_end(progress(3), reason, None)
    assert status_of(context).reason == reason


def test_state_dict_resumed_shows_last_numbers_at_once(tmp_path: Path) -> None:
    """The best loss is the best of the run, not of the process."""
    context = hook_context(tmp_path)
    first = build(StatusFile(), context)
    first.on_step(event(20, [2.0]))
    first.on_evaluation(progress(20), {"loss": 1.5})
    second = build(StatusFile(), replace(context, first_step=20))
    second.load_state_dict(first.state_dict())
    second.on_start(progress(20))
    status = status_of(context)
    assert (status.loss, status.best_validation_loss, status.saved_step) == (2.0, 1.5, 20)


def test_state_dict_is_the_same_however_the_readings_fell(tmp_path: Path) -> None:
    """A pause reads what a whole run reads later; what is remembered must not tell which of them it was."""
    whole, paused = (build(StatusFile(), hook_context(tmp_path / name)) for name in ("whole", "paused"))
    whole.on_step(event(4, [4.0, 3.0, 2.0, 1.0]))
    paused.on_step(event(2, [4.0, 3.0]))
    paused.on_step(event(4, [2.0, 1.0]))
    assert whole.state_dict() == paused.state_dict()


def test_write_path_cannot_be_written_says_so_once_and_goes_on(tmp_path: Path) -> None:
    """A full disk leaves the old status, and the run."""
    context, told = hook_context(tmp_path), Told()
    hook = StatusHook(StatusFile(), context, told)
    context.run.status.mkdir()
    hook.on_start(progress(0))
    hook.on_step(event(1))
    assert len(told) == 1
    assert told[0].startswith(f"{context.run.status} is not updated for now, training goes on: Could not write")
    context.run.status.rmdir()
    hook.on_saved(progress(2), "step_000002")
    assert status_of(context).step == 2


def test_on_end_without_reason_or_error_is_no_end(tmp_path: Path) -> None:
    """The run goes back to a checkpoint, and whoever looks meanwhile sees it train."""
    context = hook_context(tmp_path)
    hook = StatusHook(StatusFile(), context, Told())
    hook.on_start(progress(0))
    hook.on_step(event(5, [3.0]))
    hook.on_end(progress(5), None, None)
    assert Status.model_validate_json(context.run.status.read_bytes()).state != "ended"


def test_on_step_with_a_loss_that_is_no_number_shows_the_mean_of_the_others(tmp_path: Path) -> None:
    """A step that was skipped does not hide how the run is doing."""
    context = hook_context(tmp_path)
    hook = StatusHook(StatusFile(), context, Told())
    hook.on_start(progress(0))
    hook.on_step(event(3, [3.0, math.nan, 1.0]))
    assert Status.model_validate_json(context.run.status.read_bytes()).loss == 2.0


def test_on_start_with_an_evaluation_owed_says_what_is_done(tmp_path: Path) -> None:
    """It may take minutes, and no step comes before it."""
    context = replace(hook_context(tmp_path), first_step=20, owes_evaluation=True)
    build(StatusFile(), context).on_start(progress(20))
    assert status_of(context).state == "evaluating"


@pytest.mark.parametrize(("losses", "loss"), [([3.0, math.nan], None), ([3.0, math.inf], None), ([1.0, 9.0], 9.0)])
def test_on_end_numbers_that_gave_out_leave_the_loss_of_the_last_step(
    tmp_path: Path, losses: list[float], loss: float | None
) -> None:
    """Not the mean of those before it, which says that all was well; none where it is no number, for JSON has no other word."""
    context = hook_context(tmp_path)
    hook = build(StatusFile(), context)
    hook.on_step(event(3, losses))
    hook.on_end(progress(3), "nan", None)
    status = status_of(context)
    assert (status.state, status.reason, status.loss) == ("ended", "nan", loss)


def test_status_holds_why_a_run_ended_early_and_what_was_passed_over(tmp_path: Path) -> None:
    """For viewers of other processes: mlp runs, the report."""
    context = hook_context(tmp_path, facts={"passed over": "step_000020 is damaged"})
    context.board.early_end = "used its 3 minutes"
    hook = build(StatusFile(), context)
    hook.on_start(progress(10))
    assert (status_of(context).note, status_of(context).message) == ("step_000020 is damaged", "")
    hook.on_end(progress(30), "stopped_early", None)
    assert (status_of(context).note, status_of(context).message) == ("step_000020 is damaged", "used its 3 minutes")
