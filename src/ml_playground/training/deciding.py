"""What each "auto" of `[runtime]` comes to, and why: a pure function of what was asked, the machine and the run. Free of torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ml_playground.configuration.models import RuntimeSettings
from ml_playground.core.humanise import duration
from ml_playground.core.machine_rates import DeviceKind, Rates

GIB = 1 << 30

# One core with AVX-512, forward and backward pass, fused against written out (docs/LOG.md): in float32 equal up to 512
# tokens, 0.77 of the time at 1024, 0.56 at 2048; in bfloat16 4.5 times the time at 64 tokens, still 1.5 times at 2048.
FUSED_FROM_TOKENS = 1024

# Casting weights and activations to and fro takes part of what faster products save.
WORTH_CASTING = 1.3
# Share of the memory that a plan may fill: torch's allocators leave gaps, and other programs grow.
FILLED_AT_MOST = 0.9


@dataclass(frozen=True, slots=True)
class Compiling:
    """What compiling costs and brings on a kind of device."""

    seconds: float
    """To the first compiled step, with nothing kept from an earlier run."""
    gain: float
    """Share of a step's time that it saves."""
    efficiency: float
    """Share of the measured matrix rate that training reaches without it."""


# CPU: 7 (baby) to 13 % (tiny) of a step on two idle cores, 15 and 39 % on one core of a busy machine, for 10 to 28 s;
# training reaches 0.3 (tiny) to 0.65 (baby) of the rate (docs/LOG.md).
# CUDA: 250 -> 135 ms for GPT-2 (nanoGPT's README), of which the fused attention that we have anyway is a half.
COMPILING: Mapping[DeviceKind, Compiling] = {
    "cpu": Compiling(seconds=28, gain=0.12, efficiency=0.5),
    "cuda": Compiling(seconds=60, gain=0.25, efficiency=0.35),
}
# The estimates above are good to a factor of two.
CLEARLY = 2


@dataclass(frozen=True, slots=True)
class Decision:
    """A value of `[runtime]`, and why."""

    value: bool | int | str
    reason: str


Decisions = Mapping[str, Decision]
"""One for each setting of `[runtime]`."""

ASKED = "as set"


@dataclass(frozen=True, slots=True)
class Here:
    """What of the machine decides."""

    device: DeviceKind
    """Where the run computes."""
    rates: Rates
    """Of that device."""
    asked_threads: str
    """`OMP_NUM_THREADS`; empty: not set."""
    keeps_memory: bool
    """Whether the allocator can be told to keep freed memory mapped."""
    free_bytes: int | None
    """Memory of that device which can still be had; none: unknown."""
    obstacle: Callable[[], str | None]
    """Why torch.compile cannot work; asked only when it would be worth it."""


@dataclass(frozen=True, slots=True)
class Work:
    """What of the run decides."""

    steps: int
    """Optimizer updates in all."""
    flops_per_step: float
    """Floating-point operations of one of them."""
    sequence_tokens: int
    """Tokens of a training sequence."""
    planned_bytes: Callable[[RuntimeSettings], int | None]
    """Memory that training takes on its device under a decided runtime; none: nobody knows it of this kind of model."""
    uncompiled: str = ""
    """Why compiling the model would bring nothing; empty: it may."""

    def seconds(self, rates: Rates, dtype: str, compiling: Compiling) -> float:
        """About how long the run takes without compiling."""
        return self.steps * self.flops_per_step / (rates.flops_per_s(dtype) * compiling.efficiency)


def decide_runtime(wanted: RuntimeSettings, here: Here, work: Work | None) -> Decisions:
    """A value and its reason for each setting of `[runtime]`; what was asked for stays.

    Args:
        wanted: As the job says.
        here: The machine.
        work: The run; none: no run is meant, and what depends on one stays "auto", its rule for a reason.
    """
    decided = {name: Decision(value, ASKED) for name, value in wanted.model_dump().items()}
    for name, decide in (
        ("device", _device_of),
        ("dtype", _dtype),
        ("threads", _threads),
        ("allocator", _allocator),
    ):
        if decided[name].value == "auto":
            decided[name] = decide(here)
    dtype = str(decided["dtype"].value)
    if wanted.attention == "auto":
        decided["attention"] = _attention(here, work, dtype)
    if wanted.compile == "auto":
        decided["compile"] = _compile(here, work, dtype)
    if wanted.activation_checkpointing == "auto":
        decided["activation_checkpointing"] = _recompute(here, work, settled(wanted, decided))
    return decided


def settled(wanted: RuntimeSettings, decided: Decisions) -> RuntimeSettings:
    """The settings with the decided values."""
    return wanted.model_copy(update={name: decision.value for name, decision in decided.items()})


def _device_of(here: Here) -> Decision:
    return Decision(here.device, "the first of cuda, mps, cpu that is there")


def _dtype(here: Here) -> Decision:
    if here.device == "mps":
        return Decision(
            "float32", "generations of Apple's GPUs differ in bfloat16, and torch does not say which this is"
        )
    full, half = here.rates.float32_flops_per_s, here.rates.bfloat16_flops_per_s
    if half is None:
        return Decision("float32", "the device has no bfloat16")
    measured = f"measured: bfloat16 {half / 1e9:,.0f}, float32 {full / 1e9:,.0f} GFLOP/s ({half / full:.1f} times)"
    return Decision("bfloat16" if half >= WORTH_CASTING * full else "float32", measured)


def _attention(here: Here, work: Work | None, dtype: str) -> Decision:
    if here.device != "cpu":
        return Decision("fused", "one kernel, no weights of attention in memory")
    if dtype == "float32" and work is not None and work.sequence_tokens >= FUSED_FROM_TOKENS:
        return Decision(
            "fused", f"the CPU's fused kernel is the faster one in float32 from {FUSED_FROM_TOKENS} tokens on"
        )
    return Decision(
        "math", "the backward pass of the CPU's fused kernel is slow in bfloat16, and no faster at short context"
    )


def _threads(here: Here) -> Decision:
    measured = "the fastest of one a core and one a usable thread, measured"
    return Decision(here.rates.threads, f"OMP_NUM_THREADS = {here.asked_threads}" if here.asked_threads else measured)


def _allocator(here: Here) -> Decision:
    if here.keeps_memory:
        return Decision("retain", "glibc; spares faulting large buffers in again each step")
    return Decision("system", "only glibc can be told to keep freed memory mapped")


def _compile(here: Here, work: Work | None, dtype: str) -> Decision:
    compiling = COMPILING.get(here.device)
    if compiling is None:
        return Decision(False, "it is a prototype on this device")
    if work is not None and work.uncompiled:
        return Decision(False, work.uncompiled)
    if work is None:
        even_s = CLEARLY * compiling.seconds / compiling.gain
        rule = f"runs of more than about {duration(even_s)} clearly earn back its {duration(compiling.seconds)}"
        obstacle = here.obstacle()
        return Decision("auto", rule) if obstacle is None else Decision(False, f"{rule}, but {obstacle}")
    run_s = work.seconds(here.rates, dtype, compiling)
    saved_s = compiling.gain * run_s
    sums = f"would save about {duration(saved_s)} of {duration(run_s)} and cost up to {duration(compiling.seconds)}"
    if saved_s < CLEARLY * compiling.seconds:
        return Decision(False, sums)
    obstacle = here.obstacle()
    return Decision(obstacle is None, sums if obstacle is None else f"{sums}, but {obstacle}")


def _recompute(here: Here, work: Work | None, runtime: RuntimeSettings) -> Decision:
    if here.free_bytes is None:
        return Decision(False, "the memory of this device is unknown")
    if work is None:
        most = FILLED_AT_MOST * here.free_bytes / GIB
        return Decision("auto", f"where a run's plan takes more than {most:.1f} of {here.free_bytes / GIB:.1f} GiB")
    kept = runtime.model_copy(update={"activation_checkpointing": False})
    plan = work.planned_bytes(kept)
    if plan is None:
        return Decision(False, "what this kind of model takes is unknown")
    sums = f"the plan takes {plan / GIB:.1f} of {here.free_bytes / GIB:.1f} GiB"
    if plan <= FILLED_AT_MOST * here.free_bytes:
        return Decision(False, sums)
    less = work.planned_bytes(kept.model_copy(update={"activation_checkpointing": True}))
    return Decision(True, sums if less is None else f"{sums}; recomputing makes it {less / GIB:.1f}")
