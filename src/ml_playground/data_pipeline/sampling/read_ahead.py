"""The next batches are ready before they are asked for."""

from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import torch

from ml_playground.core.side_threads import SideThread

BatchT = TypeVar("BatchT")
BatchT_co = TypeVar("BatchT_co", covariant=True)

DEPTH = 2
"""Batches that wait: one for the next step, one for a step that is faster than the others."""


class Source(Protocol[BatchT_co]):
    """Equal number, equal batch."""

    def batch_at(self, index: int) -> BatchT_co:
        """Batch number `index`."""
        ...


class ReadAhead(Generic[BatchT]):
    """The batches of a source, in any order; those that follow the one last asked for are made beside the training.

    Only the one thread asks the source. What goes wrong with a batch is raised where that batch is asked for, not before.
    """

    def __init__(self, source: Source[BatchT], finish: Callable[[BatchT], BatchT]) -> None:
        """`finish` is done to each batch on the thread too: pinning, say."""
        self._source = source
        self._finish = finish
        self._coming: dict[int, Future[BatchT]] = {}
        self._thread = SideThread("read-ahead")

    def batch_at(self, index: int) -> BatchT:
        """Batch number `index`, the same that the source gives."""
        wanted = range(index, index + 1 + DEPTH)
        for passed_over in self._coming.keys() - set(wanted):
            self._coming.pop(passed_over).cancel()
        for number in wanted:
            if number not in self._coming:
                self._coming[number] = self._thread.submit(self._made, number)
        return self._coming.pop(index).result()

    def close(self) -> None:
        """End the thread; batches that nobody asked for are forgotten."""
        for made in self._coming.values():
            made.cancel()
        self._thread.close()
        self._coming.clear()

    def _made(self, index: int) -> BatchT:
        return self._finish(self._source.batch_at(index))


class TrainingSource(Generic[BatchT]):
    """The batches of a training, made ahead where that is faster."""

    def __init__(self, plain: Source[BatchT], pinned: Callable[[BatchT], BatchT]) -> None:
        """`pinned` gives a batch in memory from which a CUDA device fetches."""
        self._plain, self._pinned = plain, pinned
        self.source: Source[BatchT] = plain
        """What gives them now."""

    @contextmanager
    def reading_ahead(self, device: torch.device) -> Generator[None]:
        """Within the block, batches for a CUDA device are made and pinned beside the training.

        Elsewhere there is nothing to gain: a batch is made in 0.05 to 0.2 ms by the processor that is to compute, and handing it over
        costs as much (docs/LOG.md, read-ahead).
        """
        if device.type != "cuda":
            yield
            return
        ahead = ReadAhead(self._plain, self._pinned)
        self.source = ahead
        try:
            yield
        finally:
            self.source = self._plain
            ahead.close()
