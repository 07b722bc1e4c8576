"""What every data component has in common: a prepared data set, and the training batches over it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Generic, TypeVar

import torch

from ml_playground.data_pipeline.manifest import Prepared
from ml_playground.data_pipeline.sampling.read_ahead import Source, TrainingSource
from ml_playground.data_pipeline.storage.steady_folder import SteadyFolder

BatchT = TypeVar("BatchT")


class PreparedBatches(Generic[BatchT]):
    """The training batches over a prepared data set, and what a model and a checkpoint must know of it."""

    def __init__(
        self,
        prepared: Prepared,
        batches: Source[BatchT],
        pinned: Callable[[BatchT], BatchT],
        *,
        facts: Mapping[str, int],
        micro_batches_per_epoch: float,
    ) -> None:
        """Over a data set as it is now: what is prepared anew under its name while a run trains is another one.

        Args:
            prepared: The data set.
            batches: Training batches without end.
            pinned: Gives a batch in memory from which a CUDA device fetches.
            facts: What a model is built for.
            micro_batches_per_epoch: Those that see each row once.
        """
        self.fingerprint = prepared.fingerprint
        """sha256 over the prepared content."""
        self.facts = facts
        """What a model is built for."""
        self.micro_batches_per_epoch = micro_batches_per_epoch
        """Micro-batches that see each row once."""
        self._ahead = TrainingSource(batches, pinned)
        self._attached_name = prepared.manifest.attached
        self._attached = SteadyFolder(prepared.folder / self._attached_name, prepared.manifest.files)

    @property
    def attachments(self) -> Mapping[str, Path]:
        """The folder that goes into every checkpoint: the tokenizer, or what the images are.

        Raises:
            DataError: It was replaced while the run trains, and is nowhere beside it.
        """
        return {self._attached_name: self._attached.path()}

    @property
    def train(self) -> Source[BatchT]:
        """The training batches, without end."""
        return self._ahead.source

    def reading_ahead(self, device: torch.device) -> AbstractContextManager[None]:
        """Within the block, batches for a CUDA device are made and pinned beside the training; elsewhere there is nothing to gain."""
        return self._ahead.reading_ahead(device)


def token_facts(vocab_size: int, sequence_tokens: int) -> Mapping[str, int]:
    """What a model of tokens is built for."""
    return {"vocab_size": vocab_size, "sequence_tokens": sequence_tokens}
