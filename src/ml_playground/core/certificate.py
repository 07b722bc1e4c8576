"""`certificate.json`: that a run was killed and resumed, and ended with the same bits as one that was left alone."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from ml_playground.core.run_schema import SCHEMA_VERSION, Row


class Kill(Row):
    """How a process of the run was ended."""

    signal: str
    """SIGKILL; on Windows TerminateProcess, its like."""
    seconds: float
    """After its process was started."""
    written_step: int
    """The last step whose row had been written; the process may have been further."""
    saving: bool
    """Whether a checkpoint was being written."""
    resumed_at: int
    """The step from which the next process went on; 0 is the beginning."""


class Equality(Row):
    """What was compared, bit by bit, and hashes of it."""

    train_rows: int
    """Steps whose loss, gradient norm, learning rate and targets were compared."""
    evaluation_rows: int
    """Evaluations whose metrics were compared."""
    tensors: int
    """Of the last checkpoint: weights, averaged weights, state of the optimizer."""
    numbers: int
    """Numbers in them."""
    losses_sha256: str
    """Of the loss of every step."""
    rows_sha256: str
    """Of every column of every row that does not depend on the clock."""
    tensors_sha256: str
    """Of names, types, shapes and every bit of the tensors."""
    state_sha256: str
    """Of what the last checkpoint holds beside tensors: step, targets, learning-rate factor, metrics, states of hooks."""


class Circumstances(Row):
    """Under which the bits are equal."""

    device: str
    """The name of the processor of the tensors: "cpu", or that of a GPU."""
    dtype: str
    """Of matrix products."""
    threads: int
    """Of the CPU."""
    deterministic: bool
    """Whether only kernels with a fixed order of summation were used, which matters on CUDA."""
    python: str
    """Its version."""
    platform: str
    """System and C library."""
    processor: str
    """Of the machine."""
    commit: str | None
    """Of the checkout that ran; None for an installed package."""
    packages: dict[str, str]
    """Package -> version."""


class Certificate(Row):
    """The file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    created_at: Annotated[datetime, Field(strict=False)]
    experiment: str
    """Its name."""
    settings_hash: str
    """16 hex digits over the whole job that was run, every "auto" decided."""
    data_fingerprint: str
    """Of the prepared data."""
    steps: int
    """Step whose checkpoint was durable before the first kill, unless that was asked to come anywhere."""
    max_steps: int
    """Steps in all."""
    kills: list[Kill]
    """At least one."""
    equal: Equality
    circumstances: Circumstances
    changed: list[str]
    """Settings of the experiment that were changed for this, in words."""
    promise: str
    """What is promised on this device."""
