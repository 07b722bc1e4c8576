"""A model that is only asked how likely given answers are, from a folder of its own or from a run (data_pipeline's `Reference`)."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ml_playground.configuration.models import RuntimeSettings
from ml_playground.core.checkpoint_manifest import checked_sizes
from ml_playground.core.deps import Clock, SystemClock
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.humanise import plural
from ml_playground.core.registry import load_object
from ml_playground.core.standard_error import PatientStderr
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.models.hugging_face.folder import files_sha256
from ml_playground.objectives.log_probabilities import row_likelihoods
from ml_playground.sampling.execution import Execution, choose_execution
from ml_playground.sampling.foreign import foreign_folder
from ml_playground.sampling.preview import LOAD_TOKENIZER
from ml_playground.sampling.runner import chosen_weights, find_checkpoint, load_run

EVERY_S = 10.0
"""Seconds between two lines of progress, where nobody sits before them."""


@dataclass(frozen=True)
class ReferenceModel:
    """A folder as the transformers library saves it, a run's best checkpoint, or a checkpoint."""

    path: Path
    tokenizer_folder: Path
    """Of the data that it is asked about."""
    clock: Clock

    @property
    def name(self) -> str:
        """Where it lies."""
        return f"data.reference = {self.path}"

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over its files; of a run over the weights that are meant.

        Raises:
            ConfigError, RunError, CheckpointError: There is no such model.
        """
        if (folder := foreign_folder(self.path)) is not None:
            return files_sha256(folder)
        if not self.path.is_dir():
            raise ConfigError(
                f"{self.name} is no folder; name a model as the transformers library saves it, a run's folder or a checkpoint's."
            )
        checkpoint = find_checkpoint(self.path).checkpoint
        records = checked_sizes(checkpoint.path)
        groups = ("model", "ema") if chosen_weights(checkpoint, "auto") == "ema" else ("model",)
        weights = [records[checkpoint.tensor_file(group).name].sha256 for group in groups]
        return hashlib.sha256(" ".join([*weights, records["config.json"].sha256]).encode()).hexdigest()

    @property
    def dtype(self) -> str:
        """Of its matrix products: what this machine is fastest at, as in training."""
        return str(self._execution.dtype).removeprefix("torch.")

    @cached_property
    def _execution(self) -> Execution:
        return choose_execution(RuntimeSettings())

    def log_probabilities(self, batches: Iterable[TokenBatch], rows: int) -> Iterator[NDArray[np.float32]]:
        """Of the targets of each row, batch by batch, nats; progress goes to stderr.

        Raises:
            ConfigError, CheckpointError: It cannot be loaded.
            DataError: It reads other ids, or fewer tokens at once.
        """
        run = load_run(self.path)
        self._refuse_other_ids(run.tokenizer)
        device, dtype = self._execution.device, self._execution.dtype
        model = run.model.to(device)
        progress = _Progress(self.name, rows, self.clock)
        for batch in batches:
            with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32):
                found = row_likelihoods(model, batch.to(device)).log_probabilities
            yield found.float().cpu().numpy()
            progress.more(batch.rows)
        progress.end()

    def _refuse_other_ids(self, own: Tokenizer) -> None:
        asked: Tokenizer = load_object(LOAD_TOKENIZER)(self.tokenizer_folder)
        if asked.fingerprint != own.fingerprint:
            raise DataError(
                f"{self.name} reads ids of another tokenizer ({own.vocab_size} ids, fingerprint {own.fingerprint[:12]}) than the data "
                f"were prepared with ({asked.vocab_size} ids, {asked.fingerprint[:12]}), which mean other texts; prepare the data with "
                "the tokenizer of that model, or name another reference."
            )


class _Progress:
    """One line that grows, on a terminal; else a line now and then."""

    def __init__(self, what: str, rows: int, clock: Clock) -> None:
        self._rows, self._done, self._clock = rows, 0, clock
        self._began_s = self._said_s = clock.tick()
        self._stderr = PatientStderr()
        self._live = self._stderr.isatty()
        self._say(f"reference: how likely {plural(rows, 'answer')} are to {what.partition(' = ')[2]}")

    def more(self, rows: int) -> None:
        """So many more are done."""
        self._done += rows
        if self._live:
            self._stderr.write(f"\r\x1b[K{self._text()}")
        elif self._clock.tick() - self._said_s >= EVERY_S:
            self._say(self._text())

    def end(self) -> None:
        """All are done."""
        if self._live:
            self._stderr.write("\r\x1b[K")
        self._say(
            f"reference: {plural(self._rows, 'answer')} in {self._clock.tick() - self._began_s:.1f} s, kept for the next start"
        )

    def _text(self) -> str:
        return f"reference: {self._done:,} of {plural(self._rows, 'answer')}"

    def _say(self, line: str) -> None:
        self._said_s = self._clock.tick()
        self._stderr.write(f"{line}\n")


def open_reference(path: Path, tokenizer_folder: Path) -> ReferenceModel:
    """The model at a path, to be asked about data of this tokenizer; it is looked for when its fingerprint is asked for."""
    return ReferenceModel(path, tokenizer_folder, SystemClock())
