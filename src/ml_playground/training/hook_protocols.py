"""What the loop tells its hooks, what they may ask in return, and what they are built from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Clock
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import Reason
from ml_playground.core.values import NOTHING, Progress, Wish


@dataclass(frozen=True, slots=True)
class StepReading:
    """A step's numbers on the host."""

    step: int
    loss: float
    grad_norm: float
    lr: float
    targets: float


@dataclass(frozen=True, slots=True)
class StepEvent:
    """A completed step, and the readings that became known with it (none between log intervals)."""

    progress: Progress
    readings: Sequence[StepReading] = ()
    targets_per_s: float | None = None
    """Training speed since the last reading, evaluations and saves left out."""

    @property
    def loss(self) -> float:
        """Mean over those readings that are numbers; NaN where none is."""
        losses = [reading.loss for reading in self.readings if math.isfinite(reading.loss)]
        return math.fsum(losses) / len(losses) if losses else math.nan


class Hook(Protocol):
    """Told what happens; answers with what it wants. The loop obeys at the step boundary."""

    steering: ClassVar[bool]
    """True: the run depends on this hook, and its errors end it. False: it only watches, and may fail."""
    inline: ClassVar[bool]
    """True: told on the training thread, which waits for it, as for all that steer: for what wishes, draws from the model or from
    torch's own random numbers (a step's dropout would come out otherwise), or must have written all its rows when a checkpoint is
    durable. False: told in order on a thread of its own; it may hang, and cannot wish."""

    def on_start(self, progress: Progress) -> None:
        """Before the first step of this process."""
        ...

    def on_step(self, event: StepEvent) -> Wish:
        """After each step."""
        ...

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """After an evaluation of the validation split."""
        ...

    def on_saved(self, progress: Progress, reference: str) -> None:
        """A checkpoint is durable."""
        ...

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """The loop was left: with a reason, with an error, or with neither, to go on from an earlier step with hooks built anew."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """JSON values that must survive a resume."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""
        ...


class BaseHook:
    """A hook that does nothing: override what you need."""

    steering: ClassVar[bool] = False
    inline: ClassVar[bool] = False

    def on_start(self, progress: Progress) -> None:
        """Nothing."""

    def on_step(self, event: StepEvent) -> Wish:
        """Nothing."""
        return NOTHING

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        """Nothing."""
        return NOTHING

    def on_saved(self, progress: Progress, reference: str) -> None:
        """Nothing."""

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        """Nothing."""

    def state_dict(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


class Preview(Protocol):
    """Draws a text from the model as it stands."""

    def __call__(self, prompt: str, *, max_new_tokens: int, seed: int) -> str:
        """The continuation of a prompt, without it."""
        ...

    def notes(self, prompt: str) -> Sequence[str]:
        """What its user might not expect of a prompt: characters that the model does not know, a text longer than its context."""
        ...


@dataclass(frozen=True, slots=True)
class LiveSample:
    """A text drawn while training."""

    step: int
    prompt: str
    text: str


@dataclass(slots=True)
class Board:
    """What the hooks of one run tell each other; written on the training thread only."""

    newest_sample: LiveSample | None = None
    """Written by the samples hook, shown by the console."""
    draws_samples: bool = False
    """Whether some hook answers `sample_wanted`."""
    sample_wanted: bool = False
    """Set by the control hook, cleared by the samples hook."""
    foreseen_steps: int | None = None
    """Steps at which the run will end, as the time budget foresees it; None: at its last step."""
    early_end: str = "stopped early"
    """What an end before the last step is called; a hook that wishes for it may know better."""


@dataclass(frozen=True, slots=True)
class HookContext:
    """What a hook may hold on to when it is built."""

    job: JobConfig
    """The resolved job."""
    run: RunFolder
    clock: Clock
    unit: str
    """"token" or "image"."""
    max_steps: int
    preview: Preview | None = None
    """None where the objective draws no text."""
    first_step: int = 0
    """Where this process begins."""
    owes_evaluation: bool = False
    """Whether the evaluation of that step, which a stop broke off, is still to be made."""
    elapsed_s: float = 0.0
    """Seconds spent by earlier processes of this run."""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the console shows at the start: parameters, device, dtype, ..."""
    board: Board = field(default_factory=Board)
    """One for all hooks of a run, which are therefore built from one context."""


class Journal(Protocol):
    """Remembers wishes from outside by their step, so that a resumed run obeys them again at the same steps."""

    def recorded(self, step: int) -> Wish:
        """What was wished at this step by an earlier process; NOTHING if nothing was."""
        ...

    def record(self, step: int, wish: Wish) -> None:
        """Remember what hooks wish now."""
        ...

    def note(self, kind: str, step: int, /, **data: Any) -> None:
        """Write down what happened at a step."""
        ...
