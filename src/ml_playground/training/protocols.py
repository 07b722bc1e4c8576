"""What the loop, the learner and their parts ask of each other; the loop knows tensors only as things to hand on."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor

from ml_playground.core.run_schema import Reason

BatchT_co = TypeVar("BatchT_co", covariant=True)
BatchT_contra = TypeVar("BatchT_contra", contravariant=True)
ModelT_contra = TypeVar("ModelT_contra", contravariant=True)

TensorGroups = Mapping[str, Mapping[str, Tensor]]
"""State as named groups of named tensors: "model", "optimizer", and "ema" where weights are averaged."""


class Movable(Protocol):
    """A batch that can go to a device, whole or in parts."""

    @property
    def rows(self) -> int:
        """Into how many parts it can be split."""
        ...

    def to(self, device: torch.device) -> Any:
        """The same batch there."""
        ...

    def split(self, parts: int) -> Sequence[Self]:
        """At most so many batches, of nearly equally many rows, in order."""
        ...


class BatchSource(Protocol[BatchT_co]):
    """Equal number, equal batch, on every machine."""

    def batch_at(self, index: int) -> BatchT_co:
        """Micro-batch number `index`, counted over the whole run."""
        ...


class Data(Protocol[BatchT_co]):
    """A prepared data set, cut into batches."""

    @property
    def fingerprint(self) -> str:
        """sha256 over the content; a run goes on only with the data it began with."""
        ...

    @property
    def facts(self) -> Mapping[str, int]:
        """What the model must know: vocab_size, sequence_tokens."""
        ...

    @property
    def attachments(self) -> Mapping[str, Path]:
        """Folders that every checkpoint carries, by name: the tokenizer."""
        ...

    @property
    def train(self) -> BatchSource[BatchT_co]:
        """The training batches, without end."""
        ...

    def reading_ahead(self, device: torch.device) -> AbstractContextManager[None]:
        """Within the block, `train` makes batches for this device beside the training, where that is faster."""
        ...

    @property
    def micro_batches_per_epoch(self) -> float:
        """Micro-batches that see each training item once."""
        ...

    def split(self, name: str, *, max_batches: int | None = None) -> Iterable[BatchT_co]:
        """The batches of a whole split ("train", "val", "test") in order, each item once; at most `max_batches`.

        Where it is known, `operator.length_hint` tells how many there are; else whoever asks must read them.

        Raises:
            DataError: The data set has no such split.
        """
        ...


@runtime_checkable
class KnowsItsLargest(Protocol):
    """What data may offer whose micro-batches are not all of one size."""

    @property
    def largest_micro_batch(self) -> int:
        """Number of a training micro-batch that needs as much memory as any other."""
        ...


@runtime_checkable
class TellsRows(Protocol):
    """Data that can say what a batch is made of; a `Data` may have it."""

    def rows_at(self, index: int) -> Sequence[Mapping[str, Any]]:
        """For each row of training micro-batch `index`, as JSON values: where it comes from, and its "text" if it has one."""
        ...


class Objective(Protocol[ModelT_contra, BatchT_contra]):
    """What is minimised, as a sum: it is divided once, by the targets of a whole step."""

    @property
    def unit(self) -> str:
        """What a target is: "token" or "image"."""
        ...

    def targets(self, batch: BatchT_contra) -> float:
        """The normaliser of a batch."""
        ...

    def loss_sum(self, model: ModelT_contra, batch: BatchT_contra) -> Tensor:
        """() float32: nats, summed over the targets."""
        ...

    def sums(self, model: ModelT_contra, batch: BatchT_contra) -> Mapping[str, Tensor]:
        """What an evaluation adds up over batches, "loss" among it: (2,) total and count, left on the device."""
        ...


class Optimizer(Protocol):
    """Moves weights by their gradients."""

    @property
    def lr(self) -> float:
        """Peak learning rate, of the first group, for the log."""
        ...

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """Where each trained parameter's gradient is to be written before a step."""
        ...

    @property
    def gradient_buffers(self) -> Sequence[Tensor]:
        """The memory of all of them, (N,) each."""
        ...

    def step(self, lr_factor: float, bad: Tensor | None = None) -> None:
        """One update by the gradients at `lr_factor` times the peak learning rates.

        Where `bad`, () float32 on the device, is 1 and not 0, nothing changes.
        """
        ...

    def state_tensors(self) -> dict[str, Tensor]:
        """The whole state under stable names (`exp_avg/<parameter>`)."""
        ...

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state_tensors` gave.

        Raises:
            CheckpointError: A name or a shape does not fit; all are listed.
        """
        ...


@dataclass(frozen=True, slots=True)
class StepNumbers:
    """What one update knows; tensors stay on the device until the loop reads them."""

    loss: Tensor
    """() mean nats per target over the whole step."""
    grad_norm: Tensor
    """() global norm before clipping."""
    targets: float
    lr: float


class Learner(Protocol[BatchT_contra]):
    """Tensors; not time, files or hooks."""

    def train_step(self, batches: Sequence[BatchT_contra], *, step: int, lr_factor: float) -> StepNumbers:
        """One optimizer update from the micro-batches of one step."""
        ...

    def evaluate(self, batches: Iterable[BatchT_contra]) -> Mapping[str, float]:
        """Means over batches, with the averaged weights where there are some."""
        ...

    def state_dict(self) -> TensorGroups:
        """Everything that decides what the next step computes, by reference, not copied."""
        ...

    def load_state_dict(self, state: TensorGroups) -> None:
        """Restore it.

        Raises:
            CheckpointError: A group, a name or a shape does not fit; all are listed.
        """
        ...


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended. Only `completed` and `stopped_early` mean that nothing is left to do."""

    reason: Reason
    run: Path
    step: int
    max_steps: int
    metrics: Mapping[str, float]
    """The last evaluation."""
    message: str = ""
    nothing_to_do: bool = False
    """The run was finished before; nothing was computed."""
