"""What hooks are built from and told, small and by hand; hooks that misbehave."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ml_playground.core.run_folder import RunFolder
from ml_playground.core.values import NOTHING, Progress, Wish
from ml_playground.training.hook_protocols import BaseHook, HookContext, StepEvent, StepReading
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.tiny_job import tiny_job

MAX_STEPS = 60


def hook_context(folder: Path, **changes: Any) -> HookContext:
    """The context of a run of 60 steps in `folder`, under a clock that stands still."""
    run = RunFolder(folder / "runs" / "tiny" / "20260102-030405-abcd")
    run.path.mkdir(parents=True, exist_ok=True)
    context = HookContext(
        job=tiny_job(folder),
        run=run,
        clock=FixedClock(),
        unit="token",
        max_steps=MAX_STEPS,
        preview=EchoPreview(),
        facts={"parameters": "1,234", "device": "cpu (float32)"},
    )
    return replace(context, **changes)


def progress(step: int) -> Progress:
    """Half a second and 64 targets a step."""
    return Progress(step=step, max_steps=MAX_STEPS, epoch=step / 10, targets=64.0 * step, elapsed_s=0.5 * step)


def event(step: int, losses: Sequence[float] = (), targets_per_s: float | None = 128.0) -> StepEvent:
    """A step, with readings of the last `len(losses)` steps."""
    readings = [
        StepReading(step=step - len(losses) + 1 + number, loss=loss, grad_norm=0.5, lr=1e-3, targets=64.0)
        for number, loss in enumerate(losses)
    ]
    return StepEvent(progress(step), readings, targets_per_s if readings else None)


class EchoPreview:
    """Says what it was asked, so that a test can see it."""

    def __call__(self, prompt: str, *, max_new_tokens: int, seed: int) -> str:
        """The arguments as text."""
        return f"<{max_new_tokens} tokens after {prompt!r}, seed {seed % 1000}>"

    def notes(self, prompt: str) -> Sequence[str]:
        """Every prompt is as it should be."""
        return []


class Told(list[str]):
    """What was said to whoever sits before the run."""

    def __call__(self, text: str) -> None:
        """Keep it."""
        self.append(text)


class FailingHook(BaseHook):
    """Fails in every method while `broken`; counts how often it was asked for a step."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.broken = True
        self.steps = 0
        self._error = error or RuntimeError("no such dashboard")

    def on_start(self, progress: Progress) -> None:
        """Fail."""
        self._perhaps_fail()

    def on_step(self, event: StepEvent) -> Wish:
        """Fail, or answer."""
        self.steps += 1
        self._perhaps_fail()
        return NOTHING

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """Fail, or answer."""
        self._perhaps_fail()
        return NOTHING

    def on_saved(self, progress: Progress, reference: str) -> None:
        """Fail."""
        self._perhaps_fail()

    def on_end(self, progress: Progress, reason: Any, error: BaseException | None) -> None:
        """Fail."""
        self._perhaps_fail()

    def state_dict(self) -> Mapping[str, Any]:
        """Fail, or the number of steps."""
        self._perhaps_fail()
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Fail, or restore."""
        self._perhaps_fail()
        self.steps = state["steps"]

    def _perhaps_fail(self) -> None:
        if self.broken:
            raise self._error


class NonsenseHook(BaseHook):
    """Answers with whatever it was given."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def on_step(self, event: StepEvent) -> Wish:
        """Nonsense."""
        return self._answer

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """Nonsense."""
        return self._answer

    def state_dict(self) -> Mapping[str, Any]:
        """Nonsense."""
        return self._answer
