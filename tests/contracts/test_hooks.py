"""Every hook keeps the contract of the loop: it answers with wishes, and what it remembers is JSON."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ml_playground.configuration.families import HOOKS
from ml_playground.core.registry import load_object
from ml_playground.core.values import Wish
from ml_playground.training.hook_protocols import BaseHook, Hook, HookContext
from ml_playground.training.hooks.beside import Beside
from ml_playground.training.hooks.tolerant import Tolerant
from tests.fakes.hooks import FailingHook, NonsenseHook, Told, event, hook_context, progress

Make = Callable[[HookContext], Hook]


def by_kind(kind: str) -> Make:
    """Builds a hook as the engine does, with its default settings."""

    def make(context: HookContext) -> Hook:
        settings = load_object(HOOKS[kind].settings)()
        return load_object(HOOKS[kind].build)(settings, context)

    return make


MAKERS: dict[str, Make] = {
    **{kind: by_kind(kind) for kind in HOOKS},
    "base": lambda _: BaseHook(),
    "tolerant of one that fails": lambda context: Tolerant(FailingHook(), "failing", context, Told()),
    "beside the training": lambda context: Beside(
        Tolerant(FailingHook(), "failing", context, Told()), "failing", context, Told()
    ),
    "tolerant of nonsense": lambda context: Tolerant(NonsenseHook("nonsense"), "odd", context, Told()),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Make:
    """How each kind of hook is made."""
    return MAKERS[request.param]


def test_life_of_a_run_every_answer_is_a_wish(make: Make, tmp_path: Path) -> None:
    """The loop obeys what hooks answer, so nothing else may come."""
    hook = make(hook_context(tmp_path))
    hook.on_start(progress(0))
    answers = [hook.on_step(event(step, [2.0] if step % 5 == 0 else [])) for step in range(1, 61)]
    answers.append(hook.on_evaluation(progress(60), {"loss": 2.0}))
    hook.on_saved(progress(60), "step_000060")
    hook.on_end(progress(60), "completed", None)
    assert all(isinstance(answer, Wish) for answer in answers)


@pytest.mark.parametrize("loss", [2.0, float("nan"), float("inf")])
def test_state_goes_through_json_and_back(make: Make, tmp_path: Path, loss: float) -> None:
    """A checkpoint keeps hooks as JSON without NaN; a resumed hook remembers the same."""
    hook = make(hook_context(tmp_path))
    hook.on_step(event(5, [loss]))
    hook.on_evaluation(progress(5), {"loss": loss})
    state = json.loads(json.dumps(hook.state_dict(), allow_nan=False))
    resumed = make(hook_context(tmp_path, first_step=5))
    resumed.load_state_dict(state)
    assert resumed.state_dict() == hook.state_dict()


def test_state_empty_is_a_fresh_start(make: Make, tmp_path: Path) -> None:
    """A hook may be switched on between two starts of a run."""
    hook = make(hook_context(tmp_path, first_step=5))
    hook.load_state_dict({})
    hook.on_start(progress(5))
    assert isinstance(hook.on_step(event(6)), Wish)


def test_run_that_fails_at_once_can_be_ended(make: Make, tmp_path: Path) -> None:
    """The loop may break before the first step; an end without a start is told all the same."""
    make(hook_context(tmp_path)).on_end(progress(0), None, RuntimeError("odd"))


@pytest.mark.parametrize("kind", sorted(HOOKS))
def test_steering_is_declared_for_what_the_run_depends_on(kind: str, tmp_path: Path) -> None:
    """Only these may end a run by an error; all others are made harmless."""
    assert by_kind(kind)(hook_context(tmp_path)).steering == (kind in ("control", "early_stopping", "time_budget"))


@pytest.mark.parametrize("kind", sorted(HOOKS))
def test_inline_is_declared_for_what_must_keep_step_with_the_training(kind: str, tmp_path: Path) -> None:
    """Rows must be there when a checkpoint is durable, samples are drawn from the model; all else may hang without harm."""
    hook = by_kind(kind)(hook_context(tmp_path))
    assert (hook.inline or hook.steering) == (kind != "console")
