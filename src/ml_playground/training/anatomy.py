"""Where the time of a training step goes: measured on a job's own model and data, outside of any run."""

import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Clock
from ml_playground.core.machine_rates import DeviceKind
from ml_playground.core.process_memory import forget_peak, peak_bytes, resident_bytes
from ml_playground.core.registry import load_object
from ml_playground.training.building import build_learner, build_model, build_optimizer, open_data, steps_of
from ml_playground.training.deciding import settled
from ml_playground.training.learner import GradientLearner
from ml_playground.training.operators import (
    BACKWARD,
    DATA_MARK,
    MODULE_MARK,
    OPTIMIZER_MARK,
    READING_MARK,
    STEP_MARK,
    Operation,
    by_part,
    by_work,
)
from ml_playground.training.precision import apply_runtime, runtime_for
from ml_playground.training.protocols import Data, Optimizer, StepNumbers
from ml_playground.training.readings import read_numbers

# Enough for a steady median of small models; large ones are given at least three steps.
MEASURED_S = 3.0
FEWEST_STEPS, MOST_STEPS = 3, 400
# Numbers are read from the device after so many steps, as in a run: a small model must not wait for each.
READ_EVERY_S, MOST_BETWEEN_READINGS = 0.1, 10
PROFILED_S, MOST_PROFILED_STEPS = 0.5, 10

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One training step of a job, taken apart."""

    job: JobConfig
    """The job with its runtime decided."""
    facts: Mapping[str, int]
    """What the data gave the model."""
    unit: str
    """What a target is: token, image."""
    targets: float
    """Targets of a step."""
    steps: int
    """Steps that were timed."""
    step_s: float
    """Median wall time of a step, its batch and the reading of its numbers included."""
    first_step_s: float
    """Wall time of the first step, which also builds kernels, and compiles."""
    parts: Mapping[str, float]
    """Seconds of a step in each of its parts; they add up to `step_s`."""
    work: Mapping[str, float]
    """The same seconds by the kind of work."""
    peak_bytes: int | None
    """The most memory that training took beside the program itself; none: unknown here."""

    @property
    def device(self) -> DeviceKind:
        """Where it was trained."""
        return cast(DeviceKind, self.job.runtime.device)

    @property
    def targets_per_s(self) -> float:
        """Speed of training."""
        return self.targets / self.step_s


def dissect(job: JobConfig, clock: Clock, tell: Tell) -> Anatomy:
    """Train some steps of a job, and throw them away; nothing is written.

    Args:
        job: Its data must be prepared.
        clock: Measures.
        tell: Hears what is under way, a few words at a time.

    Raises:
        PlaygroundError: Something that the user can mend.
    """
    data = open_data(job)
    runtime = settled(job.runtime, runtime_for(job, data.facts, steps_of(job, data.micro_batches_per_epoch)))
    job = job.model_copy(update={"runtime": runtime})
    device = apply_runtime(runtime)
    subject = _Subject(job, data, device, clock)
    tell("the first step" + (", which compiles" if runtime.compile is True else ""))
    first_step_s = subject.timed_steps(1)
    # The second one still makes buffers that stay; from it the number of steps is chosen.
    guess_s = subject.timed_steps(1)
    between = max(1, min(MOST_BETWEEN_READINGS, int(READ_EVERY_S / guess_s)))
    blocks = max(FEWEST_STEPS, min(MOST_STEPS // between, int(MEASURED_S / guess_s / between)))
    tell(f"{blocks * between} steps")
    step_s = statistics.median(subject.timed_steps(between) / between for _ in range(blocks))
    peak = subject.peak()
    profiled = max(1, min(MOST_PROFILED_STEPS, int(PROFILED_S / step_s)))
    tell(f"{profiled} steps more, taken apart")
    operations = subject.profiled(profiled)
    return Anatomy(
        job=job,
        facts=data.facts,
        unit=subject.unit,
        targets=subject.targets / subject.steps,
        steps=blocks * between,
        step_s=step_s,
        first_step_s=first_step_s,
        parts=by_part(operations, steps=profiled, step_s=step_s),
        work=by_work(operations, steps=profiled, step_s=step_s),
        peak_bytes=peak,
    )


class _Marked:
    """An optimizer whose steps are a region for the profiler."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optimizer, name)

    def step(self, lr_factor: float, bad: Tensor | None = None) -> None:
        """One update; the mark costs some microseconds."""
        with record_function(OPTIMIZER_MARK):
            self._optimizer.step(lr_factor, bad)


class _Subject:
    """A model in training, without a run around it."""

    def __init__(self, job: JobConfig, data: Data[Any], device: torch.device, clock: Clock) -> None:
        self._data, self._device, self._clock = data, device, clock
        self._held = self._held_at_start()
        self._model = build_model(job, data.facts, device, load_pretrained=True)
        self._compiled = job.runtime.compile is True
        objective = load_object(families.OBJECTIVES[job.objective.kind_name].build)(job.objective)
        self.unit: str = objective.unit
        self._learner: GradientLearner = build_learner(
            job, self._model, objective, cast(Optimizer, _Marked(build_optimizer(job, self._model)))
        )
        self._micro_batches = job.train.micro_batches_per_step
        self._schedule = load_object(families.SCHEDULES[job.schedule.kind_name].build)(job.schedule, 1 << 30)
        self.steps, self.targets = 0, 0.0

    def timed_steps(self, count: int) -> float:
        """Wall time of some steps and of one reading of their numbers, which waits for the device."""
        began_s = self._clock.tick()
        self._steps(count)
        return self._clock.tick() - began_s

    def profiled(self, count: int) -> Sequence[Operation]:
        """What the steps consist of."""
        on_cuda = self._device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
        # A compiled step would be compiled anew for the marks.
        marks = nullcontext() if self._compiled else marked_modules(self._model)
        with marks, profile(activities=activities, acc_events=True) as recorded:
            for _ in range(count):
                self._steps(1, mark=True)
        return operations_of(recorded.events() or (), on_cuda=on_cuda)

    def peak(self) -> int | None:
        """The most memory since this began, less what was held then; None where the system cannot tell."""
        if self._held is None:
            return None
        peak = torch.cuda.max_memory_allocated() if self._device.type == "cuda" else peak_bytes()
        return None if peak is None else peak - self._held

    def _held_at_start(self) -> int | None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        return resident_bytes() if forget_peak() else None

    def _steps(self, count: int, *, mark: bool = False) -> None:
        marked: Callable[[str], Any] = record_function if mark else nullcontext
        pending: list[StepNumbers] = []
        for _ in range(count):
            first = self.steps * self._micro_batches
            with marked(DATA_MARK):
                batches = [self._data.train.batch_at(first + number) for number in range(self._micro_batches)]
            with marked(STEP_MARK):
                factor = self._schedule(self.steps)
                pending.append(self._learner.train_step(batches, step=self.steps, lr_factor=factor))
            self.steps += 1
        self.targets += sum(numbers.targets for numbers in pending)
        with marked(READING_MARK):
            read_numbers(pending, first_step=self.steps - count + 1)


@contextmanager
def marked_modules(model: nn.Module) -> Generator[None]:
    """Each call of a module of `model` is a region for the profiler, named after its class."""
    open_regions: list[record_function] = []

    def enter(module: nn.Module, _arguments: Any) -> None:
        region = record_function(MODULE_MARK + type(module).__name__)
        region.__enter__()
        open_regions.append(region)

    def leave(_module: nn.Module, _arguments: Any, _result: Any) -> None:
        open_regions.pop().__exit__(None, None, None)

    handles = [module.register_forward_pre_hook(enter) for module in model.modules()]
    handles += [module.register_forward_hook(leave, always_call=True) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def operations_of(events: Sequence[Any], *, on_cuda: bool) -> list[Operation]:
    """What torch.profiler recorded, as plain values; on CUDA the time is that of the kernels an operation started."""
    found: list[Operation] = []
    for event in events:
        if event.device_type.name != "CPU":
            continue
        chain = [event]
        while chain[-1].cpu_parent is not None:
            chain.append(chain[-1].cpu_parent)
        # What computes a gradient knows only of itself; the node of the graph around it knows of which operation.
        of_gradient = next((around.sequence_nr for around in chain if around.name.startswith(BACKWARD)), None)
        microseconds = event.self_device_time_total if on_cuda else event.self_cpu_time_total
        found.append(
            Operation(
                name=event.name,
                start=event.time_range.start,
                seconds=microseconds * 1e-6,
                callers=tuple(around.name for around in chain[1:]),
                sequence=event.sequence_nr if of_gradient is None else of_gradient,
            )
        )
    return found
