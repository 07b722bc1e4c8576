"""How fast this machine really is: measured once, kept in a file, read without torch.

A figure holds for what it was measured on: the processor, the cores that the container leaves, the version of torch, the
device. Each such identity has its own row in `.cache/machine.json`, so that a home shared by several machines serves all.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import StorageError
from ml_playground.core.foreign_files import read_at_most
from ml_playground.core.installation import installed_version
from ml_playground.core.machine import Machine
from ml_playground.core.run_folder import cache_folder

DeviceKind = Literal["cpu", "cuda", "mps"]

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]

# A home shared by a cluster sees many machines; the file is read at every start.
MOST_ROWS = 32
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Rates:
    """What one device does in a second, at its best of many tries."""

    # Read back from a file that anybody may have edited: wrong types and values are refused, not turned.
    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    device: DeviceKind
    """Kind of the device."""
    threads: Annotated[int, Field(ge=1, le=4096)]
    """CPU threads that the figures were measured with: the number that multiplies fastest."""
    float32_flops_per_s: Rate
    """Floating-point operations of a large float32 matrix product."""
    bfloat16_flops_per_s: Rate | None
    """The same in bfloat16; none: the device cannot."""
    read_bytes_per_s: Rate
    """Bytes read from the device's memory, far more of them than its caches hold."""
    undisturbed: bool = True
    """Whether the processor was ours alone meanwhile; otherwise the figures are too low."""

    def flops_per_s(self, dtype: str) -> float:
        """The rate in `float32` or `bfloat16`; float32's where the other cannot be had."""
        return (
            self.bfloat16_flops_per_s or self.float32_flops_per_s if dtype == "bfloat16" else self.float32_flops_per_s
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """What figures hold for: another value of any of these needs a new measurement."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    processor: str
    """The maker's name."""
    features: str
    """The names of `machine.FEATURES` that it has."""
    usable_cores: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Hardware threads that this process may use."""
    physical_cores: int
    """Cores that the processor has."""
    torch: str
    """Version of torch, whose kernels were measured."""
    device: str
    """The device as the maker calls it; `cpu`."""
    asked_threads: str
    """`OMP_NUM_THREADS`: threads that its user allows; empty: any."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file: an identity and its figures."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    identity: Identity
    rates: Rates


ROWS = TypeAdapter(tuple[Row, ...])


def identity_of(machine: Machine, device: str = "cpu") -> Identity:
    """What figures of a device of this machine hold for."""
    return Identity(
        processor=machine.processor,
        features=" ".join(machine.features),
        usable_cores=float(machine.usable_cores),
        physical_cores=machine.physical_cores,
        torch=installed_version("torch") or "none",
        device=device,
        asked_threads=os.environ.get("OMP_NUM_THREADS", ""),
    )


def rates_file() -> Path:
    """Where the figures are kept; safe to delete."""
    return cache_folder() / "machine.json"


def kept_rates(identity: Identity, file: Path | None = None) -> Rates | None:
    """The figures that were measured for this identity; none where there are none, or the file is damaged."""
    return next((row.rates for row in _rows(file or rates_file()) if row.identity == identity), None)


def keep_rates(identity: Identity, rates: Rates, file: Path | None = None) -> bool:
    """Write figures down for the next start; answers whether that was possible, for a run needs no cache."""
    file = file or rates_file()
    others = [row for row in _rows(file) if row.identity != identity]
    rows = [Row(identity, rates), *others][:MOST_ROWS]
    try:
        write_file(file, ROWS.dump_json(tuple(rows), indent=2), durable=False)
    except (StorageError, OSError):
        return False
    return True


def _rows(file: Path) -> tuple[Row, ...]:
    """All rows of a file; none where it is absent, unreadable or not what we write."""
    try:
        return ROWS.validate_json(read_at_most(file, _MOST_BYTES))
    except (OSError, ValidationError):
        return ()
