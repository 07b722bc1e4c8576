"""What a reference model makes of the answers of prepared pairs: computed once, and kept in the cache. P pieces of a split.

A file of the cache is the sha256 of what follows it, and one little-endian float32 for each piece, split by split. It is named by all that
decides the numbers; one that is damaged counts as absent.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import DataError
from ml_playground.core.run_folder import cache_folder
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.data_pipeline.sampling.epoch_order import evaluated
from ml_playground.data_pipeline.sampling.example_rows import PaddedRows
from ml_playground.data_pipeline.settings import PreferencePairs

FORMAT = 1
TYPE = np.dtype("<f4")
DIGEST_BYTES = hashlib.sha256().digest_size


class Reference(Protocol):
    """A model that is only asked; loaded when it is."""

    @property
    def name(self) -> str:
        """For a message."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 over all that decides what it answers, but for the precision."""
        ...

    @property
    def dtype(self) -> str:
        """Of its matrix products."""
        ...

    def log_probabilities(self, batches: Iterable[TokenBatch], rows: int) -> Iterator[NDArray[np.float32]]:
        """Of the targets of each row, batch by batch, nats; progress is shown of `rows` in all.

        Raises:
            ConfigError, CheckpointError: It cannot be loaded.
            DataError: It reads other ids, or fewer tokens at once.
        """
        ...


def kept_scores(
    fingerprint: str, reference: Reference, splits: Mapping[str, PaddedRows], settings: PreferencePairs
) -> Mapping[str, NDArray[np.float32]]:
    """Log-probability of each piece, (P,) by split, from the cache, where they are computed to if they are not there.

    Args:
        fingerprint: Of the prepared data.
        reference: The model to ask.
        splits: The pieces.
        settings: How they were cut.

    Raises:
        DataError: The reference thinks a piece impossible, or cannot read it.
    """
    path = path_of(fingerprint, reference, settings)
    sizes = [len(rows) for rows in splits.values()]
    found = _read(path, sum(sizes))
    if found is None:
        found = _computed(reference, splits, settings)
        content = found.astype(TYPE).tobytes()
        write_file(path, hashlib.sha256(content).digest() + content)
    return dict(zip(splits, np.split(found, np.cumsum(sizes)[:-1]), strict=True))


def path_of(fingerprint: str, reference: Reference, settings: PreferencePairs) -> Path:
    """Where the numbers of these data, this model and this way to cut are kept."""
    decides = {
        "format": FORMAT,
        "data": fingerprint,
        "reference": reference.fingerprint,
        "dtype": reference.dtype,
        "sequence_tokens": settings.sequence_tokens,
        "truncation": settings.truncation,
    }
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "reference_scores" / f"{key[:32]}.f32"


def _read(path: Path, count: int) -> NDArray[np.float32] | None:
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, content = whole[:DIGEST_BYTES], whole[DIGEST_BYTES:]
    if len(content) != count * TYPE.itemsize or hashlib.sha256(content).digest() != digest:
        return None
    return np.frombuffer(content, TYPE).astype(np.float32)


def _computed(reference: Reference, splits: Mapping[str, PaddedRows], settings: PreferencePairs) -> NDArray[np.float32]:
    """(all pieces,) split after split; pieces of about one length are read together."""
    places: list[NDArray[np.int64]] = []
    chosen: list[tuple[PaddedRows, NDArray[np.int64]]] = []
    first = 0
    for rows in splits.values():
        for numbers in evaluated(
            len(rows), settings.micro_batch_rows, settings.sequence_tokens, None, rows.evaluation_order
        ):
            places.append(first + numbers)
            chosen.append((rows, numbers))
        first += len(rows)
    found = np.empty(first, dtype=np.float32)
    answers = reference.log_probabilities((rows.batch(numbers) for rows, numbers in chosen), first)
    for where, answer in zip(places, answers, strict=True):
        found[where] = answer
    if not np.isfinite(found).all():
        raise DataError(
            f"{reference.name} thinks {int((~np.isfinite(found)).sum())} of {first} answers impossible: their log-probability is not "
            "finite, and nothing can be compared with it; check the model with: mlp sample"
        )
    return found
