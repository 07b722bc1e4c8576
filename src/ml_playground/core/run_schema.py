"""The files that trainer and viewers share. A change that an older reader cannot read raises SCHEMA_VERSION."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ml_playground.core.error_handling import DataError
from ml_playground.core.foreign_files import read_at_most

FormT = TypeVar("FormT", bound=BaseModel)

SCHEMA_VERSION = 1

Reason = Literal["completed", "stopped_early", "paused", "nan", "out_of_memory"]
"""How a run left its loop; anything else is an exception."""

FINISHED: tuple[Reason, ...] = ("completed", "stopped_early")
"""The ends that leave nothing to do."""

Step = Annotated[int, Field(ge=0, lt=1 << 63)]
"""The number of a step, or of all; a larger one is none, and overflows where speeds and times are reckoned from it."""

RunState = Literal["starting", "training", "evaluating", "ended", "failed"]


class Row(BaseModel):
    """A line or file that is read back: unknown keys are kept out of the way, wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, ser_json_inf_nan="constants")


class Status(Row):
    """`status.json`: what the run is doing at this moment."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run: str
    """`<experiment>/<run id>`."""
    state: RunState
    reason: Reason | None = None
    """Set when `state` is "ended"."""
    message: str = ""
    """Why it ended or failed, in words."""
    note: str = ""
    """What its user should know of this start: a damaged checkpoint that was passed over."""
    pid: int
    updated_at: Annotated[datetime, Field(strict=False)]
    step: Step
    max_steps: Step
    epoch: float = 0.0
    targets: float = 0.0
    """Targets trained on so far."""
    unit: Annotated[str, Field(pattern=r"^[a-z]{1,20}$")] = "token"
    """What a target is; it is shown on terminals."""
    loss: float | None = None
    """Mean training loss of the last interval, nats per target; where numbers gave out that of the last step, none if it was no number."""
    validation_loss: float | None = None
    best_validation_loss: float | None = None
    best: float | None = None
    """Of `best_metric`, over all evaluations; what the best checkpoint is chosen by."""
    best_metric: Annotated[str, Field(max_length=40)] = "loss"
    targets_per_s: float | None = None
    elapsed_s: float = 0.0
    """Seconds spent in this run, over all its starts."""
    eta_s: float | None = None
    saved_step: Step | None = None
    """Step of the newest durable checkpoint."""


class MetricRow(Row):
    """A line of `metrics.jsonl`. `values` is the same whenever the run is repeated; `timing` is not."""

    kind: Literal["train", "evaluation"]
    step: Step
    values: dict[str, float]
    """train: loss, grad_norm, lr, targets. evaluation: loss and what else the objective sums, per split prefix-free."""
    timing: dict[str, float] = Field(default_factory=dict)
    """elapsed_s, targets_per_s."""


class Event(Row):
    """A line of `events.jsonl`: something that happened once."""

    schema_version: Literal[1] = SCHEMA_VERSION
    time: Annotated[datetime, Field(strict=False)]
    step: Step
    kind: str
    """started, resumed, rows_dropped, wish, saved, rolled_back, skipped, split, fallback, hook_failed, ended, failed, ..."""
    data: dict[str, Any] = Field(default_factory=dict)


class ControlRequest(Row):
    """A file in `control/`: what its user wants of a running job."""

    schema_version: Literal[1] = SCHEMA_VERSION
    action: Literal["pause", "stop", "save", "evaluate", "sample", "set_lr_factor"]
    lr_factor: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = None
    """With set_lr_factor: multiplies the schedule from the next step on."""

    @model_validator(mode="after")
    def _a_factor_goes_with_set_lr_factor_alone(self) -> "ControlRequest":
        if (self.action == "set_lr_factor") != (self.lr_factor is not None):
            raise ValueError(
                f"lr_factor goes with set_lr_factor and with nothing else (got {self.action}, {self.lr_factor})"
            )
        return self


class Result(Row):
    """`result.json`: how the last process of a run left its loop; written once it is durable."""

    schema_version: Literal[1] = SCHEMA_VERSION
    reason: Reason
    step: Step
    max_steps: Step
    metrics: dict[str, float] = Field(default_factory=dict)
    """The last evaluation."""
    message: str = ""


def complaint(error: ValueError) -> str:
    """The first thing that is wrong with a file's content, on one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


def read_described(path: Path, form: type[FormT], what: str) -> FormT:
    """The content of a file that describes what a data set or a checkpoint holds.

    Raises:
        DataError: The file is missing, or not what is written there.
    """
    try:
        return form.model_validate_json(read_at_most(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; restore it from a copy.") from error
    except ValidationError as error:
        raise DataError(f"{path} is not what describes {what}: {complaint(error)}; restore it from a copy.") from None
