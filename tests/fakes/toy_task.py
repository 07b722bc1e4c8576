"""A task small enough to check by hand: rows of numbers, a linear map with dropout, squared error as "nats"."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ml_playground.core.error_handling import DataError

WIDTH = 3


@dataclass(frozen=True)
class ToyBatch:
    """Rows of inputs; `counted` says which rows have a target."""

    inputs: Tensor
    counted: Tensor

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.inputs)

    def to(self, device: torch.device) -> "ToyBatch":
        """The same batch there."""
        return ToyBatch(self.inputs.to(device), self.counted.to(device))

    def split(self, parts: int) -> Sequence["ToyBatch"]:
        """At most so many batches."""
        return [ToyBatch(*piece) for piece in zip(self.inputs.chunk(parts), self.counted.chunk(parts), strict=True)]


class ToyModel(nn.Module):
    """Two linear layers; the first is a hidden matrix in Muon's sense."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.inner = nn.Linear(WIDTH, 2 * WIDTH).double()
        self.outer = nn.Linear(2 * WIDTH, 1).double()
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The inner layer's weight."""
        return [self.inner.weight]

    def forward(self, inputs: Tensor) -> Tensor:
        """One number a row."""
        return self.outer(self.dropout(torch.tanh(self.inner(inputs)))).squeeze(-1)


class ToyObjective:
    """Squared distance to the sum of the inputs, over counted rows."""

    unit = "token"

    def targets(self, batch: ToyBatch) -> float:
        """Counted rows."""
        return float(batch.counted.sum())

    def loss_sum(self, model: nn.Module, batch: ToyBatch) -> Tensor:
        """Sum of squared errors."""
        errors = (model(batch.inputs) - batch.inputs.sum(-1)) ** 2
        return (errors * batch.counted).sum()

    def sums(self, model: nn.Module, batch: ToyBatch) -> Mapping[str, Tensor]:
        """The loss."""
        return {"loss": torch.stack([self.loss_sum(model, batch), batch.counted.sum()])}


class ToyData:
    """Rows that are a function of their number; equal number, equal batch."""

    fingerprint = "toy"
    facts: Mapping[str, int] = {}
    attachments: Mapping[str, Path] = {}

    def __init__(self, rows: int = 2, rows_per_epoch: int = 16) -> None:
        self._rows = rows
        self._rows_per_epoch = rows_per_epoch
        self.asked: list[int] = []

    @property
    def train(self) -> "ToyData":
        """Itself."""
        return self

    def reading_ahead(self, device: torch.device) -> AbstractContextManager[None]:
        """Nothing to gain."""
        return nullcontext()

    @property
    def micro_batches_per_epoch(self) -> float:
        """Batches of an epoch."""
        return self._rows_per_epoch / self._rows

    def batch_at(self, index: int) -> ToyBatch:
        """Micro-batch number `index`; every third row of the stream has no target."""
        self.asked.append(index)
        numbers = range(index * self._rows, (index + 1) * self._rows)
        return ToyBatch(
            torch.stack([row_of(number) for number in numbers]),
            torch.tensor([number % 3 != 2 for number in numbers], dtype=torch.float64),
        )

    def split(self, name: str, *, max_batches: int | None = None) -> Iterable[ToyBatch]:
        """Two batches."""
        if name not in ("train", "val"):
            raise DataError(f"no split {name!r}")
        return [self.batch_at(100 + number) for number in range(max_batches or 2)]


def row_of(number: int) -> Tensor:
    """Row number `number` of the stream, (WIDTH,) float64."""
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
