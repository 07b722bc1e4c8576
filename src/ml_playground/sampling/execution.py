"""Where and how precisely a trained model is run: as its job recorded it, as far as this machine can."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ml_playground.configuration.models import RuntimeSettings
from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.torch_machine import bound_kernel_caches, devices_here, multiplies_bfloat16
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.models.protocols import Decoder, NextTokenModel


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
    bound_kernel_caches()
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


@dataclass(frozen=True, slots=True)
class WeightPrecision:
    """Of the weights while drawing, and what differs from what was asked for."""

    precision: Precision
    notes: Sequence[str] = ()


def choose_precision(
    settings: SampleSettings, device: torch.device, native_bfloat16: Callable[[str], bool] = multiplies_bfloat16
) -> WeightPrecision:
    """What `sample.precision` means on a device; what this machine lacks is replaced, and said.

    In bfloat16 the sums of a batch differ from those of one row in the third digit, and a seed would no longer mean one
    text; so it is never chosen for its user.
    """
    if settings.precision == "auto":
        return WeightPrecision("float32")
    # llama.cpp multiplies it everywhere: what is read is half as much, which is what counts there.
    if settings.precision == "bfloat16" and settings.engine == "torch" and not native_bfloat16(device.type):
        return WeightPrecision(
            "float32", [f"this machine's {device.type} does not multiply bfloat16 itself; drawing in float32"]
        )
    return WeightPrecision(settings.precision)


def torch_engine(model: NextTokenModel, precision: Precision, export: Path) -> Decoder:
    """The model's own decoder; it exports nothing."""
    return model.decoder(precision)
