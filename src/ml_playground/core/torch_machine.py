"""The probe's other half: devices as torch sees them, and how fast they really multiply and read."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from ml_playground.core.humanise import plural
from ml_playground.core.machine import has_native_bfloat16, probe
from ml_playground.core.machine_rates import DeviceKind, Identity, Rates, identity_of, keep_rates, kept_rates

KERNELS_KEPT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": 128, "LRU_CACHE_CAPACITY": 64}
"""Shapes of products that oneDNN, and torch's way to it, remember how to multiply: those of some five lengths, with 25 a step each."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device that can train."""

    name: str
    """As torch writes it: cpu, cuda:0, mps."""
    description: str
    """The maker's name, and for CUDA the compute capability."""
    memory_bytes: int | None
    """Its own memory; none: it shares the machine's."""


def devices_here() -> list[DeviceKind]:
    """Kinds of devices of this machine, the one that `runtime.device = "auto"` takes first."""
    there: list[DeviceKind] = ["cuda"] if torch.cuda.is_available() else []
    return [*there, "mps", "cpu"] if torch.backends.mps.is_available() else [*there, "cpu"]


def bound_kernel_caches() -> None:
    """Have oneDNN forget shapes that have not come for long; it reads this at its first product of bfloat16.

    It and torch keep 1,024 each, all with memory of their own. Where every batch has its own length, fine-tuning took 180 to 250 MB
    more with them than with these bounds, and no less time; with 32 and 16 it took a fifth more (docs/LOG.md). What the user says
    in the environment stands.
    """
    for name, shapes in KERNELS_KEPT.items():
        os.environ.setdefault(name, str(shapes))


def multiplies_bfloat16(device: str) -> bool:
    """Whether a kind of device has it in hardware; where it is emulated, float32 is faster and more precise."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Generations of Apple's GPUs differ, and torch does not say which this is.
    return device == "cpu" and has_native_bfloat16()


def available_devices() -> list[Device]:
    """Devices of this machine, the one that `runtime.device = "auto"` takes first."""
    found = [cuda_device(index, torch.cuda.get_device_properties(index)) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", None))
    found.append(Device("cpu", plural(torch.get_num_threads(), "thread"), None))
    return found


def cuda_device(index: int, properties: Any) -> Device:
    """What torch.cuda knows of a device."""
    description = f"{properties.name}, capability {properties.major}.{properties.minor}"
    return Device(f"cuda:{index}", description, properties.total_memory)


GIB = 1 << 30

# Side of the square matrices: large enough for the full rate of the device, small enough for some tries in a tenth of a second.
MATRIX_SIDE = {"cpu": 1024, "mps": 2048, "cuda": 8192}
# Bytes that are read for the memory's rate: more than the caches hold, and on a GPU enough that the launch does not count.
READ_BYTES = {"cpu": 256 << 20, "mps": 256 << 20, "cuda": 1 << 30}

# The best of what fits in this time counts; all figures of a CPU take about five times as long.
QUICK_SECONDS, THOROUGH_SECONDS = 0.1, 0.3
# Two threads of one core share its arithmetic: more threads than cores must earn their switching.
WORTH_MORE_THREADS = 1.1
# Share of the time in which a thread that always has work really had a core.
UNDISTURBED_SHARE = 0.9
# Load for each hardware thread below which a measurement is likely to be undisturbed.
IDLE_BELOW = 0.3


def rates_of(device: DeviceKind, *, again: bool = False) -> Rates:
    """How fast a kind of device is: as kept for this machine, else measured and kept.

    Args:
        device: Kind of the device.
        again: Measure whatever is kept, and take longer over it.
    """
    machine = probe()
    identity = identity_of(machine, torch.cuda.get_device_name() if device == "cuda" else device)
    kept = kept_rates(identity)
    if kept is not None and not again and trusted(kept, load=_load(), cores=machine.logical_cores):
        return kept
    counts = thread_counts(machine.usable_cores, machine.physical_cores)
    rates = measured_rates(device, counts, THOROUGH_SECONDS) if again else _measured_once(identity, device, counts)
    keep_rates(identity, rates)
    return rates


def trusted(kept: Rates, *, load: float, cores: int) -> bool:
    """Whether kept figures are as good as new ones would be.

    Args:
        kept: What was measured, perhaps while other programs ran.
        load: Mean number of threads that wanted to run in the last minute.
        cores: Hardware threads of the machine.
    """
    return kept.undisturbed or load > IDLE_BELOW * cores


def _load() -> float:
    # Windows knows no load.
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


@cache
def _measured_once(_identity: Identity, device: DeviceKind, counts: tuple[int, ...]) -> Rates:
    """A process measures once, also where its home keeps nothing or what is kept was disturbed."""
    return measured_rates(device, counts, QUICK_SECONDS)


def thread_counts(usable_cores: float, physical_cores: int) -> tuple[int, ...]:
    """Numbers of CPU threads worth trying, fewest first: one a core, and all that the container leaves.

    `OMP_NUM_THREADS` in the environment leaves no choice.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        return (torch.get_num_threads(),)
    # A quota of 2.5 cores stops three threads in turn: they wait for each other at every product.
    usable = max(1, int(usable_cores))
    return tuple(sorted({min(usable, physical_cores), usable}))


def measured_rates(device: DeviceKind, counts: Sequence[int], seconds: float) -> Rates:
    """The rates of a device, with the number of CPU threads that multiplies fastest.

    Args:
        device: Kind of the device.
        counts: Numbers of threads to try; a later one is taken where it is clearly faster than those before.
        seconds: Time for each figure.
    """
    place = torch.device(device)
    former = torch.get_num_threads()
    wall_s, own_s = time.perf_counter(), time.thread_time()
    try:
        threads, full = counts[0], 0.0
        for count in counts:
            torch.set_num_threads(count)
            rate = matrix_rate(place, torch.float32, seconds=seconds)
            if rate > full * WORTH_MORE_THREADS:
                threads, full = count, rate
        torch.set_num_threads(threads)
        half = matrix_rate(place, torch.bfloat16, seconds=seconds)
        read = read_rate(place, seconds=seconds, size_bytes=min(READ_BYTES[device], (free_bytes(device) or GIB) // 8))
    finally:
        torch.set_num_threads(former)
    share = (time.thread_time() - own_s) / (time.perf_counter() - wall_s)
    # While a GPU works, the thread that waits for it rightly sleeps.
    return Rates(device, threads, full, half, read, undisturbed=device != "cpu" or share > UNDISTURBED_SHARE)


def matrix_rate(device: torch.device, dtype: torch.dtype, *, seconds: float, side: int | None = None) -> float:
    """The best rate of a square matrix product, in floating-point operations a second."""
    side = side or MATRIX_SIDE[device.type]
    left = torch.ones(side, side, device=device, dtype=dtype)
    return 2 * side**3 / _shortest_s(lambda: (left @ left)[0, 0], seconds)


def read_rate(device: torch.device, *, seconds: float, size_bytes: int) -> float:
    """The best rate at which numbers are read from memory and summed, in bytes a second."""
    numbers = torch.ones(size_bytes // 4, device=device)
    return 4 * numbers.numel() / _shortest_s(numbers.sum, seconds)


def _shortest_s(work: Callable[[], torch.Tensor], seconds: float) -> float:
    """Shortest time of some work that ends in one number; reading that number waits for the device."""
    work().item()  # the first one builds the kernel and starts the threads
    shortest_s = math.inf
    started_s = time.perf_counter()
    # Once at least: a process that is stopped right here has no time left when it goes on.
    while shortest_s == math.inf or time.perf_counter() - started_s < seconds:
        before_s = time.perf_counter()
        work().item()
        shortest_s = min(shortest_s, time.perf_counter() - before_s)
    return shortest_s


def free_bytes(device: DeviceKind) -> int | None:
    """Memory of the device that this process can still have; none: unknown."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    if device == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return probe().available_bytes
