"""Where and how precisely a trained model is run: as its job recorded it, as far as this machine can."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ml_playground.configuration.models import RuntimeSettings
from ml_playground.core.machine import has_native_bfloat16


@dataclass(frozen=True, slots=True)
class Execution:
    """A device, a precision of matrix products, and what differs from the record."""

    device: torch.device
    dtype: torch.dtype
    notes: Sequence[str] = ()


def multiplies_bfloat16(device: str) -> bool:
    """Whether the hardware has it; where it is emulated, float32 is faster and more precise."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "mps" or has_native_bfloat16()


def choose_execution(
    runtime: RuntimeSettings, native_bfloat16: Callable[[str], bool] = multiplies_bfloat16
) -> Execution:
    """The recorded device and precision; what this machine lacks is replaced, and said."""
    notes: list[str] = []
    there = devices_here()
    device = there[0] if runtime.device == "auto" else runtime.device
    if device not in there:
        device = there[0]
        notes.append(f"runtime.device = {runtime.device!r} is not on this machine; using {device}")
    dtype = torch.float32
    if runtime.dtype != "float32":
        if native_bfloat16(device):
            dtype = torch.bfloat16
        elif runtime.dtype == "bfloat16":
            notes.append(f"this machine's {device} does not multiply bfloat16 itself; using float32")
    return Execution(torch.device(device), dtype, notes)


def devices_here() -> list[str]:
    """Kinds of devices, the one that "auto" takes first."""
    there = ["cuda"] if torch.cuda.is_available() else []
    return [*there, "mps", "cpu"] if torch.backends.mps.is_available() else [*there, "cpu"]
