"""A job: one frozen object, read from TOML, recorded as JSON. Which components it holds is decided by their kinds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, StringConstraints, model_validator
from pydantic_core import CoreSchema, core_schema

from ml_playground.configuration.base import (
    ByKind,
    Component,
    ConfigPlugin,
    Count,
    CountOrZero,
    Direction,
    NonNegative,
    ObjectiveSettings,
    Positive,
    Probability,
    Strict,
)
from ml_playground.configuration.chat_settings import ChatSettings
from ml_playground.configuration.fitting import (
    misfit_of_averages,
    misfit_of_documents,
    misfit_of_pairs,
    misfit_of_parts,
    misfit_of_tokenizer,
)
from ml_playground.configuration.plugins import brought
from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.foreign_files import is_plain
from ml_playground.core.registry import did_you_mean
from ml_playground.core.values import Merit


def _folder_everywhere(name: str) -> str:
    """The name, if every system makes a folder of it.

    Raises:
        ValueError: Windows takes it for a device, or drops its last dot.
    """
    if not is_plain(name):
        raise ValueError(f"{name!r} cannot be the name of a folder on Windows; choose another one")
    return name


@dataclass(frozen=True)
class FolderEverywhere:
    """Marks a name that must be a folder on every system."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Checked after the rest."""
        return core_schema.no_info_after_validator_function(_folder_everywhere, handler(source))


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"), FolderEverywhere()]
"""A name that is also a folder: letters, digits, `_`, `-`, `.`; it cannot leave its parent."""


class PrepareSettings(Strict):
    """`[prepare]`: from a source to what is trained on. Changing anything but the limit makes another data set beside the old one."""

    source: Annotated[Component, ByKind("source")]
    """Where text or images come from."""
    tokenizer: Annotated[Component, ByKind("tokenizer")] | None = None
    """How text becomes ids; trained on the training part only. Every source of text needs one; for images it is none."""
    profile: Annotated[Component, ByKind("profile")] | None = None
    """What is made of chats before they are trained on, and how their answers are drawn and scored; none: nothing."""
    chat: ChatSettings = ChatSettings()
    """How chats become tokens and which of them are targets."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the text or the images kept for validation."""
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share kept for a final test; 0 makes no test split, unless the source brings one."""
    split_by: Literal["position", "document", "hash"] = "position"
    """`position`: the last part of the text; `document`: the last whole documents, or images; `hash`: each by the hash of its id."""
    duplicates: Literal["keep", "drop"] = "keep"
    """Documents with the very text of an earlier one, images with its very pixels: `drop` leaves them out; counted they are either way."""
    max_loss_fraction: Probability = 0.01
    """Share of text that may be lost unasked: modules that are not UTF-8, characters without an id, cut rows. Above it nothing is done."""

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> "PrepareSettings":
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction + test_fraction = {self.val_fraction + self.test_fraction:g} leaves nothing to train on; "
                "their sum must be below 1"
            )
        return self

    @model_validator(mode="after")
    def _only_chats_have_a_profile(self) -> "PrepareSettings":
        idle = [name for name in ("profile", "chat") if getattr(self, name) != type(self).model_fields[name].default]
        if idle and self.source.modality not in ("chats", None):
            raise ValueError(
                f"{' and '.join(idle)} has no effect, for source.kind = {self.source.kind_name!r} gives {self.source.modality} and no "
                "chats; leave it out, or choose a source of chats, e.g. jsonl_chat"
            )
        return self

    @model_validator(mode="after")
    def _text_alone_has_a_tokenizer(self) -> "PrepareSettings":
        if problem := misfit_of_tokenizer(self.source, self.tokenizer):
            raise ValueError(problem)
        return self


class TrainSettings(Strict):
    """`[train]`: how long, how much a step, what is measured on the way."""

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("max_steps", "max_epochs"),)

    max_steps: Count | None = None
    """Optimizer updates in all. Exactly one of max_steps and max_epochs."""
    max_epochs: Positive | None = None
    """Passes over the training part in all; the steps are computed from it."""
    micro_batches_per_step: Count = 1
    """Batches whose gradients are summed before one update; the loss is divided once, by the targets of all of them."""
    grad_clip: NonNegative = 1.0
    """Gradients are scaled down to this global norm; 0 switches clipping off."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the averaged weights, which are then evaluated, sampled and exported; 0 keeps none."""
    evaluate_every_steps: Count = 250
    """Steps between evaluations; the last step is always evaluated."""
    evaluation_batches: Count | None = None
    """Validation batches an evaluation reads, spread evenly over the split; none: the whole split."""
    log_every_steps: Count = 10
    """Steps between readings of the loss from the device; each step still gets its own row."""
    on_bad_step: Literal["stop", "skip", "roll_back"] = "roll_back"
    """Where loss or gradient are not finite: `stop`, `skip` the update, or `roll_back` to a checkpoint and leave the step's batches out."""
    spike_factor: NonNegative = 0.0
    """A loss so many robust standard deviations above the median of the 64 steps before is bad too; 0 looks for none, 10 is careful."""
    bad_step_tries: Count = 3
    """How often that is done in a row before the run ends: steps skipped one after another, or roll-backs within 100 steps."""

    @model_validator(mode="after")
    def _one_length(self) -> "TrainSettings":
        if (self.max_steps is None) == (self.max_epochs is None):
            raise ValueError(
                f"set exactly one of max_steps (got {self.max_steps}) and max_epochs (got {self.max_epochs})"
            )
        return self

    @model_validator(mode="after")
    def _a_spike_is_seen_too_late_to_be_skipped(self) -> "TrainSettings":
        if self.spike_factor and self.on_bad_step == "skip":
            raise ValueError(
                f"spike_factor = {self.spike_factor:g} does not go with on_bad_step = 'skip': the device skips a step before "
                "anybody knows the losses around it; set on_bad_step = 'roll_back', or spike_factor = 0"
            )
        return self


class CheckpointingSettings(Strict):
    """`[checkpointing]`: when a run is saved and what is kept. The newest checkpoint is always kept."""

    every_steps: Count | None = 500
    """Steps between checkpoints; none: only by time, at the best evaluation, and at the end."""
    every_minutes: Positive | None = 10.0
    """Minutes between checkpoints, whatever the step."""
    keep_last: Count = 2
    """How many of the newest checkpoints stay."""
    keep_best: CountOrZero = 1
    """How many of the best checkpoints stay; above 0 a new best evaluation is saved at once."""
    best_by: str = "loss"
    """By which number of an evaluation checkpoints are best: loss, or another one that the objective measures, such as accuracy."""
    keep_every_steps: Count | None = None
    """Checkpoints at multiples of this stay for ever."""


class RuntimeSettings(Strict):
    """`[runtime]`: the machine. Each "auto" is decided once, recorded in the run, and used again on resume."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where tensors live; auto takes the first of cuda, mps, cpu that is there."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products; weights stay float32. auto: bfloat16 where it was measured to be clearly faster."""
    attention: Literal["auto", "math", "fused"] = "auto"
    """`math`: products and a softmax written out; `fused`: one kernel. auto: fused on GPUs, and on CPUs in float32 from 1024 tokens on."""
    compile: bool | Literal["auto"] = "auto"
    """torch.compile; auto: when the run is so long that it clearly saves more time than it costs, and a compiler is there."""
    activation_checkpointing: bool | Literal["auto"] = "auto"
    """Recompute each block in the backward pass: less memory, about a third more time. auto: when the device has too little."""
    threads: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = "auto"
    """CPU threads of a matrix product; auto: `OMP_NUM_THREADS`, else as many as were measured to be fastest."""
    allocator: Literal["auto", "system", "retain"] = "auto"
    """`retain`: glibc keeps freed memory mapped, which spares faulting it in again each step; auto: retain on Linux."""
    deterministic: bool = False
    """On CUDA: only kernels with a fixed order of summation, so that a resumed run gives the same bits."""
    on_out_of_memory: Literal["stop", "split"] = "stop"
    """`stop` says what to change; `split` goes on with each micro-batch in 2, 4, ... parts: the same step up to the order of a sum."""
    flight_check: bool = True
    """Before the first step: compare memory and disk with what the run needs, and try a step, an evaluation and a text."""


class JobConfig(Strict):
    """One job: everything that decides what a run computes, and nothing else."""

    name: Name
    """The experiment's name; runs are filed under it."""
    seed: CountOrZero = 1337
    """Source of all randomness of the run."""
    use: tuple[str, ...] = ()
    """Groups laid under this file: `model/10m` is presets/model/10m.toml."""
    # Before the components: their kinds may be what these bring.
    plugins: Annotated[tuple[ConfigPlugin, ...], AfterValidator(brought)] = ()
    """Python files that bring kinds, such as `plugin.py` beside this file, and installed packages that the job cannot do without."""
    prepare: PrepareSettings
    """From a source to files that are trained on."""
    data: Annotated[Component, ByKind("data")]
    """How batches are cut from the prepared data."""
    model: Annotated[Component, ByKind("model")]
    """What is trained."""
    objective: Annotated[Component, ByKind("objective")]
    """What is minimised."""
    optimizer: Annotated[Component, ByKind("optimizer")]
    """How weights move; owns the peak learning rate."""
    schedule: Annotated[Component, ByKind("schedule")]
    """Share of the peak learning rate at each step."""
    train: TrainSettings
    """How long and how much."""
    checkpointing: CheckpointingSettings = CheckpointingSettings()
    """When to save and what to keep."""
    runtime: RuntimeSettings = RuntimeSettings()
    """The machine."""
    hooks: dict[Name, Annotated[Component, ByKind("hook")]] = Field(default_factory=dict)
    """What watches and steers the run, by a name of your choice."""
    sample: SampleSettings = SampleSettings()
    """How text is drawn."""

    @model_validator(mode="after")
    def _schedule_fits_the_run(self) -> "JobConfig":
        warmup_steps: Any = getattr(self.schedule, "warmup_steps", 0)
        if self.train.max_steps is not None and warmup_steps != "auto" and warmup_steps > self.train.max_steps:
            raise ValueError(
                f"schedule.warmup_steps = {warmup_steps} is longer than train.max_steps = {self.train.max_steps}; "
                f"make the warm-up shorter (schedule.warmup_steps={self.train.max_steps // 10}) or the run longer"
            )
        return self

    @model_validator(mode="after")
    def _parts_go_together(self) -> "JobConfig":
        parts = {"data": self.data, "model": self.model, "objective": self.objective}
        problem = (
            misfit_of_parts(self.prepare.source, parts, self.hooks)
            or self.model.misfit_with(self.prepare.tokenizer)
            or misfit_of_pairs(self.prepare.source, self.data, self.objective)
            or misfit_of_documents(self.data, self.model)
        )
        if problem:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _one_mean_of_weights(self) -> "JobConfig":
        if problem := misfit_of_averages(self.optimizer, self.schedule, self.train.ema_decay):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _the_best_is_measured(self) -> "JobConfig":
        name, measured = self.checkpointing.best_by, _metrics_of(self.objective)
        if name not in measured:
            raise ValueError(
                f"checkpointing.best_by = {name!r} is not among what objective.kind = {self.objective.kind_name!r} measures"
                f"{did_you_mean(name, measured)} (allowed: {', '.join(measured)})"
            )
        return self

    @property
    def merit(self) -> Merit:
        """By which checkpoints are compared."""
        return self.merit_of(self.checkpointing.best_by)

    def merit_of(self, metric: str) -> Merit:
        """A number of an evaluation, and which way it is better; of what the objective does not know, less is."""
        return Merit(metric, higher=_metrics_of(self.objective).get(metric) == "higher")


def _metrics_of(objective: Component) -> Mapping[str, Direction]:
    return objective.metrics if isinstance(objective, ObjectiveSettings) else ObjectiveSettings.metrics
