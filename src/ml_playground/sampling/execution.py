"""Where and how precisely a trained model is run: as its job recorded it, as far as this machine can."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ml_playground.configuration.models import RuntimeSettings
from ml_playground.core.torch_machine import devices_here, multiplies_bfloat16


@dataclass(frozen=True, slots=True)
class Execution:
    """A device, a precision of matrix products, what differs from the record, and how attention is computed."""

    device: torch.device
    dtype: torch.dtype
    notes: Sequence[str] = ()
    attention: Literal["math", "fused"] = "math"


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
    attention = runtime.attention
    if attention == "auto":
        attention = "fused" if device == "cuda" else "math"
    return Execution(torch.device(device), dtype, notes, attention)
