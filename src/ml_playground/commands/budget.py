"""`--minutes`: measure this machine and this text for some seconds, and plan the run that reaches the lowest loss in time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ml_playground.configuration.loading import Loaded, load
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import Layer
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.humanise import duration
from ml_playground.core.run_folder import RunFolder, runs_folder
from ml_playground.data_pipeline.text_dataset import PreparedText
from ml_playground.planning.budget import (
    ANCHOR_STEPS,
    LEAST_STEPS,
    SMALLEST_MINUTES,
    TRIAL_STEPS,
    Candidate,
    Choice,
    DataFacts,
    Search,
    Timing,
    anchor_of,
    search,
)
from ml_playground.planning.ngrams import counted_loss
from ml_playground.planning.recipe import HOOK, Time, reasons, recipe_of, recorded, settings_of, tried_as, without
from ml_playground.planning.scaling import TextDifficulty, fitted_law
from ml_playground.training.resume import differences, read_job
from ml_playground.training.settings import TimeBudget

if TYPE_CHECKING:
    from ml_playground.training.trial import Measured

PLANNING_SHARE, PLANNING_SECONDS = 0.08, 20.0
"""What planning may take: that share of the time, and never more than that."""
ANCHOR_SHARE = 0.6
"""Of it for the short training that tells how hard the text is."""
LEAVING_S = 1.0
"""From the last save to the end of the process, beside the drawing of texts: loading the run, the report, the way out."""
STARTING_S = 0.4
"""From the start of the process to the first line of the command."""
USABLE_MEMORY = 0.6
"""Of what is free: the rest is for the program and its neighbours."""
LENGTHS = ("train.max_steps", "train.max_epochs")


@dataclass(frozen=True, slots=True)
class Request:
    """`mlp run EXPERIMENT --minutes M` as it was typed."""

    experiment: str
    sets: Sequence[str]
    files: Sequence[Path]
    minutes: float

    @property
    def layer(self) -> str:
        """What the plan is called where the origin of a setting is shown."""
        return f"--minutes {self.minutes:g}"

    def load(self, table: Mapping[str, Any] | None = None) -> Loaded:
        """The job, with a plan laid under what its user says."""
        plan = Layer(self.layer, table, Path.cwd()) if table is not None else None
        return load(self.experiment, sets=self.sets, files=self.files, plan=plan)


def fixed_by_user(loaded: Loaded) -> dict[str, Any]:
    """Keys that were set beside the experiment: typed, in a file or a variable.

    A group that was chosen there fixes the whole model, the whole optimizer: with other parts it would be another recipe.
    """
    origins = {key: chain[-1] for key, chain in loaded.origins.items() if chain}
    typed = {key: origin.value for key, origin in origins.items() if _is_typed(origin.layer)}
    if "use" not in typed:
        return typed
    chosen = {f"group {name}" for name in loaded.job.use}
    tables = {key.partition(".")[0] for key, origin in origins.items() if origin.layer in chosen} & {
        "model",
        "optimizer",
    }
    recipe = {
        key: chain[-1].value for key, chain in loaded.origins.items() if chain and key.partition(".")[0] in tables
    }
    batches = {
        key: origin.value for key, origin in origins.items() if key.startswith("data.") and origin.layer in chosen
    }
    return recipe | batches | typed


def _is_typed(layer: str) -> bool:
    return layer in ("--set", "--config") or layer.startswith("environment variable")


def check_request(request: Request, asked: Loaded) -> dict[str, Any]:
    """What is fixed.

    Raises:
        ConfigError: The time is too short, or contradicts what was set; or what would be trained cannot be planned.
    """
    if request.minutes < SMALLEST_MINUTES:
        raise ConfigError(
            f"--minutes {request.minutes:g} is too short to plan, train and sample anything; "
            f"the smallest budget is --minutes {SMALLEST_MINUTES:g}."
        )
    fixed = fixed_by_user(asked)
    for key in LENGTHS:
        if fixed.get(key) is not None:
            raise ConfigError(
                f"--minutes {request.minutes:g} and {key} = {fixed[key]} ({asked.origins[key][-1].where}) both say how long "
                f"to train; remove one of them."
            )
    if asked.job.model.kind_name != "gpt":
        raise ConfigError(
            f"--minutes plans models of kind gpt, and this job has model.kind = {asked.job.model.kind_name!r}; "
            "train it with train.max_steps instead."
        )
    if (weights := getattr(asked.job.model, "weights", None)) is not None:
        raise ConfigError(
            f"--minutes plans a model from random weights, and this job begins with model.weights = {str(weights)!r}; "
            "train it with train.max_steps instead."
        )
    return fixed


def former_job(request: Request, fixed: Mapping[str, Any]) -> JobConfig | None:
    """The job of the newest run that the same request began, with the plan that was made then."""
    name = request.load().job.name
    for config in sorted((runs_folder() / name).glob("*/config.json"), reverse=True):
        saved = read_job(RunFolder(config.parent))
        hook = saved.hooks.get(HOOK)
        if not isinstance(hook, TimeBudget) or hook.minutes != request.minutes:
            continue
        job = request.load(without(recorded(saved.model_dump(mode="json")), fixed)).job
        if not any(difference.lock != "free" for difference in differences(saved, job)):
            return job
    return None


@dataclass(frozen=True, slots=True)
class Planned:
    """The job to train, and what was said about it."""

    job: JobConfig
    lines: Sequence[str]


class Planner:
    """Measures candidates of one request on one prepared text."""

    def __init__(
        self, request: Request, fixed: Mapping[str, Any], prepared: PreparedText, deps: Deps, began_s: float
    ) -> None:
        self._request = request
        self._fixed = fixed
        self._prepared = prepared
        self._clock = deps.clock
        self._began_s = began_s
        self._seconds = 60 * request.minutes
        self._planning_s = min(PLANNING_SHARE * self._seconds, PLANNING_SECONDS)
        self._planning_began_s = deps.clock.tick()
        self.facts = facts_of(prepared)
        self._measured: dict[Candidate, Measured] = {}

    def plan(self) -> Planned:
        """The best job for the time.

        Raises:
            ConfigError: The time does not suffice.
        """
        tokens = self._prepared.tokens
        counted = counted_loss(tokens("train"), tokens("val"), self.facts.vocab_size)
        first = anchor_of(self._fixed)
        anchor = self._trial(first, ANCHOR_STEPS, ANCHOR_SHARE * self._planning_s)
        difficulty = TextDifficulty(counted, first.training(self.facts, anchor.steps), anchor.loss)
        timing = Timing(anchor.step_s, anchor.evaluation_s)
        seconds = self._left_s(anchor) - max(0.0, self._planning_left_s())
        if seconds <= LEAST_STEPS * timing.step_s:
            raise self._too_short(seconds, timing)
        wanted = Search(fitted_law(), self.facts, difficulty, seconds, self._fits, self._fixed)
        choice = search(wanted, self._timing, timing)
        train_seconds = self._left_s(self._measured.get(choice.candidate, anchor))
        if train_seconds <= LEAST_STEPS * choice.timing.step_s:
            raise self._too_short(train_seconds, choice.timing)
        time = Time(self._request.minutes, train_seconds)
        job = self._load(settings_of(choice, self.facts, time)).job
        return Planned(job, self._lines(choice, time))

    def _too_short(self, seconds: float, timing: Timing) -> ConfigError:
        needed_s = self._seconds - seconds + 2 * LEAST_STEPS * timing.step_s
        # Rounded up to a tenth of a minute.
        smallest = max(SMALLEST_MINUTES, math.ceil(needed_s / 6) / 10)
        return ConfigError(
            f"{self._request.layer} leaves {max(0.0, seconds):.1f} s for training, less than {LEAST_STEPS} steps take on this "
            f"machine; the smallest budget here is --minutes {smallest:g}."
        )

    def _load(self, table: Mapping[str, Any]) -> Loaded:
        return self._request.load(without(table, self._fixed))

    def _timing(self, candidate: Candidate) -> Timing | None:
        left_s = self._planning_left_s()
        if left_s < 0.1 * self._planning_s:
            return None
        measured = self._trial(candidate, TRIAL_STEPS, min(left_s, 0.3 * self._planning_s))
        return Timing(measured.step_s, measured.evaluation_s)

    def _trial(self, candidate: Candidate, steps: int, seconds: float) -> "Measured":
        from ml_playground.training.trial import trial  # noqa: PLC0415 - torch takes seconds; refusals come first

        job = self._load(tried_as(candidate, steps)).job
        measured = trial(job, self._clock, steps=steps, seconds=seconds, evaluate_tokens=20_000, draw=True)
        self._measured[candidate] = measured
        return measured

    def _fits(self, candidate: Candidate) -> bool:
        from ml_playground.training.trial import fits_in_memory  # noqa: PLC0415 - as above

        job = self._load(recipe_of(candidate, LEAST_STEPS)).job
        facts = {"vocab_size": self.facts.vocab_size, "sequence_tokens": candidate.sequence_tokens}
        return fits_in_memory(job, facts, USABLE_MEMORY)

    def _planning_left_s(self) -> float:
        return self._planning_began_s + self._planning_s - self._clock.tick()

    def _left_s(self, measured: "Measured") -> float:
        """Seconds for training, if sampling goes as fast as it was measured."""
        sample = self._request.load().job.sample
        drawing_s = sample.max_new_tokens * measured.drawing_s * len(sample.prompts)
        used_s = self._clock.tick() - self._began_s + STARTING_S
        return self._seconds - used_s - measured.building_s - drawing_s - LEAVING_S

    def _lines(self, choice: Choice, time: Time) -> list[str]:
        expected = choice.expected
        return [
            *reasons(choice, self.facts),
            f"{duration(time.train_seconds)} of {duration(self._seconds)} are for training",
            f"expected validation loss {expected.loss:.3f} ({expected.low:.3f} to {expected.high:.3f})",
        ]


def facts_of(prepared: PreparedText) -> DataFacts:
    """What planning must know of a text."""
    splits = prepared.manifest.ledger.splits
    return DataFacts(
        vocab_size=prepared.manifest.vocab_size,
        train_tokens=splits["train"].tokens,
        validation_tokens=splits["val"].tokens,
        bytes_per_token=splits["val"].bytes / splits["val"].tokens,
    )


def planned_job(request: Request, prepared: PreparedText, began_s: float, *, fresh: bool) -> JobConfig:
    """The job of a run that goes on, or of a plan that is made now.

    Raises:
        ConfigError: It cannot be planned; says why.
    """
    fixed = check_request(request, request.load())
    if not fresh and (former := former_job(request, fixed)) is not None:
        typer.echo(f"plan: as it was made when the run began ({request.layer})", err=True)
        return former
    planned = Planner(request, fixed, prepared, Deps(), began_s).plan()
    for line in planned.lines:
        typer.echo(f"plan: {line}", err=True)
    return planned.job


def record_of(job: JobConfig, loss: float | None) -> dict[str, float | None] | None:
    """Forecast and result as JSON values; None for a run without a forecast."""
    hook = job.hooks.get(HOOK)
    if not isinstance(hook, TimeBudget) or hook.expected_loss is None:
        return None
    return {
        "minutes": hook.minutes,
        "expected": hook.expected_loss,
        "low": hook.expected_low,
        "high": hook.expected_high,
        "error": None if loss is None else round(loss - hook.expected_loss, 4),
    }


def verdict(job: JobConfig, loss: float | None) -> str:
    """`predicted 1.620 (1.570 to 1.670), got 1.600: error -0.020`; empty where nothing was foreseen or measured."""
    record = record_of(job, loss)
    if record is None or loss is None:
        return ""
    low, high = record["low"], record["high"]
    band = f" ({low:.3f} to {high:.3f})" if low and high else ""
    return f"predicted {record['expected']:.3f}{band}, got {loss:.3f}: error {record['error']:+.3f}"
