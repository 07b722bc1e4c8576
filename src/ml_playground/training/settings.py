"""Settings of optimizers, schedules and hooks; free of torch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ml_playground.configuration.base import (
    Component,
    ConfigPrompt,
    Count,
    CountOrZero,
    HookSettings,
    Modality,
    NonNegative,
    Positive,
    Probability,
)

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Component):
    """Adam with decoupled weight decay on matrices only."""

    kind: Literal["adamw"] = "adamw"
    """AdamW."""
    lr: Positive = 1e-3
    """Peak learning rate."""
    beta1: Beta = 0.9
    """Memory of the mean gradient."""
    beta2: Beta = 0.95
    """Memory of the squared gradient."""
    eps: Positive = 1e-8
    """Added to the root of the squared gradient."""
    weight_decay: NonNegative = 0.1
    """Decay of tensors with two or more dimensions."""


class AdamW8bit(AdamW):
    """AdamW whose two moments are kept in 8 bits each: 2.1 bytes for each weight instead of 8."""

    kind: Literal["adamw8bit"] = "adamw8bit"  # pyright: ignore[reportIncompatibleVariableOverride]
    """AdamW in 8 bits."""


class PagedAdamW(AdamW):
    """AdamW whose moments lie in the host's memory and visit the device piece by piece; on CUDA alone, where these are two memories."""

    kind: Literal["paged_adamw"] = "paged_adamw"  # pyright: ignore[reportIncompatibleVariableOverride]
    """AdamW, paged."""


class GaLore(AdamW):
    """AdamW in a small space for the matrices inside the blocks: moments of a projected gradient, turned anew now and then."""

    kind: Literal["galore"] = "galore"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Projected gradients."""
    rank: Count = 128
    """Dimensions of the space; matrices whose shorter side is no longer are moved by AdamW as it is."""
    update_proj_gap: Count = 200
    """Steps between two projections, each made of the gradient of its step."""
    scale: Positive = 0.25
    """Factor on the steps of the projected matrices; what remains of their gradients is smaller than the whole."""


class ScheduleFree(AdamW):
    """AdamW without a descent of the rate: gradients are taken beside a mean of all weights so far, which is evaluated and kept."""

    averages_weights: ClassVar[bool] = True

    kind: Literal["schedule_free"] = "schedule_free"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Schedule-free AdamW."""
    beta1: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """How near the mean gradients are taken: 1 would be at it, 0 at the weights that it is the mean of."""


class Muon(Component):
    """Orthogonalised momentum for the matrices inside the blocks, AdamW for everything else."""

    kind: Literal["muon"] = "muon"
    """Muon."""
    lr: Positive = 1e-3
    """Peak learning rate of the AdamW part: embeddings, head, norms, biases."""
    matrix_lr: Positive = 0.02
    """Peak learning rate of the matrices; scaled by sqrt(max(1, rows / columns))."""
    momentum: Beta = 0.95
    """Memory of the gradient, Nesterov."""
    newton_schulz_steps: Count = 5
    """Iterations of the orthogonalisation."""
    matrix_weight_decay: NonNegative = 0.0
    """Decay of the matrices."""
    beta1: Beta = 0.9
    """AdamW part: memory of the mean gradient."""
    beta2: Beta = 0.95
    """AdamW part: memory of the squared gradient."""
    eps: Positive = 1e-8
    """AdamW part: added to the root of the squared gradient."""
    weight_decay: NonNegative = 0.1
    """AdamW part: decay of tensors with two or more dimensions."""


USUAL_WARMUP_STEPS = 100
SHORT_RUN = 10
"""A run of fewer steps than this many usual warm-ups warms up for one part in as many."""
RISING = 0.3
"""Share of one cycle that goes up, as in torch.optim.lr_scheduler.OneCycleLR."""


class Schedule(Component):
    """What all schedules share: a straight warm-up to the peak."""

    warmup_steps: CountOrZero | Literal["auto"] = "auto"
    """Steps from nothing to the peak, in a line; the first step already moves. auto: 100, in a run below 1,000 steps a tenth of them."""

    def warmup(self, max_steps: int) -> int:
        """The steps of the warm-up in a run of so many."""
        return min(USUAL_WARMUP_STEPS, max_steps // SHORT_RUN) if self.warmup_steps == "auto" else self.warmup_steps

    def shortened(self, max_steps: int) -> bool:
        """Whether the run is too short for the usual warm-up, which nobody has said otherwise."""
        return self.warmup_steps == "auto" and max_steps // SHORT_RUN < USUAL_WARMUP_STEPS


class WarmupCosine(Schedule):
    """Up in a line, down in half a cosine."""

    descends: ClassVar[bool] = True

    kind: Literal["warmup_cosine"] = "warmup_cosine"
    """Half a cosine."""
    floor: Probability = 0.1
    """Share of the peak that the schedule comes down to as the run ends."""


class WarmupStableDecay(Schedule):
    """Up in a line, flat, then down in a line over the last part."""

    descends: ClassVar[bool] = True

    kind: Literal["warmup_stable_decay"] = "warmup_stable_decay"
    """WSD."""
    decay_fraction: Probability = 0.2
    """Share of all steps spent going down, at the end."""
    floor: Probability = 0.0
    """Share of the peak that the schedule comes down to as the run ends."""


class WarmupLinear(Schedule):
    """Up in a line, down in a line."""

    descends: ClassVar[bool] = True

    kind: Literal["warmup_linear"] = "warmup_linear"
    """A straight line."""
    floor: Probability = 0.0
    """Share of the peak that the schedule comes down to as the run ends."""


class WarmupConstant(Schedule):
    """Up in a line, then flat."""

    kind: Literal["warmup_constant"] = "warmup_constant"
    """Flat."""


class OneCycle(Schedule):
    """Up in a line over nearly a third of the run, down in half a cosine to nearly nothing."""

    descends: ClassVar[bool] = True

    kind: Literal["one_cycle"] = "one_cycle"
    """One cycle."""
    warmup_steps: CountOrZero | Literal["auto"] = "auto"
    """Steps from nothing to the peak, in a line; the first step already moves. auto: 30 % of all steps."""
    floor: Probability = 4e-6
    """Share of the peak that the schedule comes down to as the run ends."""

    def warmup(self, max_steps: int) -> int:
        """The steps of the way up in a run of so many."""
        return round(RISING * max_steps) if self.warmup_steps == "auto" else self.warmup_steps

    def shortened(self, max_steps: int) -> bool:
        """Never: it is a share of the run."""
        del max_steps
        return False


class Console(HookSettings):
    """Progress on the terminal: a live line, or plain lines when piped."""

    kind: Literal["console"] = "console"
    """Terminal."""
    every_seconds: Positive = 10.0
    """Seconds between plain lines when the output is no terminal; the live line moves at each reading."""


class JsonlMetrics(HookSettings):
    """`metrics.jsonl`: a row for every step and every evaluation."""

    kind: Literal["jsonl_metrics"] = "jsonl_metrics"
    """Rows of JSON."""


class StatusFile(HookSettings):
    """`status.json`: what the run is doing at this moment."""

    kind: Literal["status"] = "status"
    """One JSON object."""
    every_seconds: Positive = 1.0
    """Shortest time between two writes."""


class Control(HookSettings):
    """`control/`: files that steer the run while it trains."""

    kind: Literal["control"] = "control"
    """A folder of requests."""
    every_seconds: NonNegative = 0.5
    """Shortest time between two looks into the folder."""


class Samples(HookSettings):
    """Texts drawn as training goes on, shown on the console and kept in `samples/`."""

    modality: ClassVar[Modality | None] = "text"

    kind: Literal["samples"] = "samples"
    """Live samples."""
    every_steps: Count = 500
    """Steps between samples."""
    prompt: ConfigPrompt | None = None
    """Text to go on from; none: the first of sample.prompts."""
    max_new_tokens: Count = 80
    """Length of a sample."""


class EarlyStopping(HookSettings):
    """Finish when the validation loss has not improved for a while."""

    decides_the_end: ClassVar[bool] = True

    kind: Literal["early_stopping"] = "early_stopping"
    """Early stopping."""
    metric: str = "loss"
    """Which number of an evaluation; the objective knows which way it is better."""
    patience: Count = 5
    """Evaluations in a row without improvement before the run is finished."""
    min_delta: NonNegative = 0.0
    """How much better counts as an improvement."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Weight of the past in an exponential mean of the metric; 0 takes each evaluation as it is."""


class TimeBudget(HookSettings):
    """Use a given time: the learning rate falls to zero as the time runs out, and the run then ends."""

    decides_the_end: ClassVar[bool] = True
    goes_by_the_clock: ClassVar[bool] = True

    kind: Literal["time_budget"] = "time_budget"
    """Time budget."""
    minutes: Positive = 10.0
    """What the whole command may take."""
    train_seconds: Positive | None = None
    """Of it for training, evaluating and saving; none: all. The rest is for preparing, planning and sampling."""
    decay_fraction: Probability = 0.85
    """Share of the training time, at its end, in which the learning rate comes down to zero in a line."""
    expected_loss: Positive | None = None
    """Validation loss that was foreseen, nats per token; its error is reported at the end. None: no forecast."""
    expected_low: Positive | None = None
    """Nine of ten forecasts like this one end above it; none: no forecast."""
    expected_high: Positive | None = None
    """Nine of ten forecasts like this one end below it; none: no forecast."""
