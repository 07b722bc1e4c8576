"""The probe's other half: devices as torch sees them, and how fast they really multiply."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from ml_playground.core.machine import has_native_bfloat16


@dataclass(frozen=True, slots=True)
class Device:
    """One device that can train."""

    name: str
    """As torch writes it: cpu, cuda:0, mps."""
    description: str
    """The maker's name, and for CUDA the compute capability."""
    memory_bytes: int | None
    """Its own memory; none: it shares the machine's."""
    native_bf16: bool
    """Whether it multiplies bfloat16 itself: see `multiplies_bfloat16`."""


def devices_here() -> list[str]:
    """Kinds of devices of this machine, the one that `runtime.device = "auto"` takes first."""
    there = ["cuda"] if torch.cuda.is_available() else []
    return [*there, "mps", "cpu"] if torch.backends.mps.is_available() else [*there, "cpu"]


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
        found.append(Device("mps", "Apple GPU", None, multiplies_bfloat16("mps")))
    found.append(Device("cpu", f"{torch.get_num_threads()} threads", None, multiplies_bfloat16("cpu")))
    return found


def cuda_device(index: int, properties: Any) -> Device:
    """What torch.cuda knows of a device."""
    description = f"{properties.name}, capability {properties.major}.{properties.minor}"
    return Device(f"cuda:{index}", description, properties.total_memory, multiplies_bfloat16("cuda"))


# Side of the square matrices, and the time one precision may take: long enough for a steady clock, short enough to wait.
MATRIX_SIDE = {"cpu": 1024, "mps": 2048, "cuda": 4096}
BUDGET_SECONDS = 0.3


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int | None = None) -> float:
    """The best rate of a square matrix product, in floating point operations a second, measured for 0.3 s."""
    side = side or MATRIX_SIDE[device.type]
    left = torch.ones(side, side, device=device, dtype=dtype)
    shortest_s = float("inf")
    _timed_product(left)  # the first one builds the kernel
    started_s = time.perf_counter()
    while time.perf_counter() - started_s < BUDGET_SECONDS:
        shortest_s = min(shortest_s, _timed_product(left))
    return 2 * side**3 / shortest_s


def _timed_product(left: torch.Tensor) -> float:
    started_s = time.perf_counter()
    product = left @ left
    # Reading one number waits for the device.
    product[0, 0].item()
    return time.perf_counter() - started_s
