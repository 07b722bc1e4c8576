"""Data some of whose batches ruin a step, and the same data without them; as kinds that a job can name."""

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ml_playground.configuration import families
from ml_playground.core.registry import Family, Kind
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.data_pipeline.sampling import token_windows
from ml_playground.data_pipeline.settings import TokenWindows
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken
from ml_playground.training.guard import remaining

HERE = "tests.fakes.poisoned"


class PoisonedWindows(TokenWindows):
    """Windows, some of whose micro-batches are poison."""

    kind: Literal["poisoned_windows"] = "poisoned_windows"  # type: ignore[assignment]
    """Poisoned windows."""
    poison: tuple[int, ...] = ()
    """Numbers of the micro-batches that ruin their step."""
    without: tuple[int, ...] = ()
    """Numbers of the micro-batches that the data do not have."""


class PoisonedNextToken(NextToken):
    """The loss of the next token, ruined by poison."""

    kind: Literal["poisoned_next_token"] = "poisoned_next_token"  # type: ignore[assignment]
    """Poisoned next token."""
    factor: float | None = None
    """What poison multiplies the loss with; none: a NaN."""


class PoisonedBatch(TokenBatch):
    """Looks like any other."""

    __slots__ = ()


class PoisonedData:
    """Token windows, but for some batches."""

    def __init__(self, settings: PoisonedWindows, plain: token_windows.TokenWindowData) -> None:
        self._settings = settings
        self._plain = plain

    def __getattr__(self, name: str) -> Any:
        """All else."""
        return getattr(self._plain, name)

    @property
    def train(self) -> "PoisonedData":
        """Itself."""
        return self

    def batch_at(self, index: int) -> TokenBatch:
        """The windows' batch; poison where it is said to be."""
        number = remaining(index, sorted(self._settings.without))
        batch = self._plain.train.batch_at(number)
        return PoisonedBatch(batch.ids, batch.labels) if number in self._settings.poison else batch


class PoisonedObjective(NextTokenObjective):
    """The next token's, but for poison."""

    def __init__(self, settings: PoisonedNextToken) -> None:
        super().__init__(settings)
        self._factor = math.nan if settings.factor is None else settings.factor

    def loss_sum(self, model: Any, batch: TokenBatch) -> Tensor:
        """() nats."""
        loss = super().loss_sum(model, batch)
        return loss * self._factor if isinstance(batch, PoisonedBatch) else loss


def build_data(settings: PoisonedWindows, folder: Path, seed: int) -> PoisonedData:
    """The data."""
    return PoisonedData(settings, token_windows.build(settings, folder, seed))


def build_objective(settings: PoisonedNextToken) -> PoisonedObjective:
    """The objective."""
    return PoisonedObjective(settings)


ROWS: Sequence[tuple[Family, str, Kind]] = [
    (
        families.DATA,
        "poisoned_windows",
        Kind(f"{HERE}:PoisonedWindows", f"{HERE}:build_data", fates=families.DATA["token_windows"].fates),
    ),
    (families.OBJECTIVES, "poisoned_next_token", Kind(f"{HERE}:PoisonedNextToken", f"{HERE}:build_objective")),
]
"""Tables, and what they are to hold."""


def poisoned(poison: tuple[int, ...] = (), without: tuple[int, ...] = (), **objective: Any) -> dict[str, Any]:
    """The sections of a job over such data."""
    return {
        "data": {"kind": "poisoned_windows", "poison": poison, "without": without},
        "objective": {"kind": "poisoned_next_token", **objective},
    }


@contextmanager
def known_kinds() -> Generator[None]:
    """Inside, a job can name these kinds."""
    for table, name, kind in ROWS:
        table.add(name, kind, HERE)
    try:
        yield
    finally:
        for table, name, _ in ROWS:
            del table._named[name]
