"""Preferences as batches: both answers of a pair together, with what a reference model makes of them. B pairs, P pieces."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ml_playground.configuration import families
from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import load_object
from ml_playground.data_pipeline.batches import PairBatch
from ml_playground.data_pipeline.chats.chat_dataset import PreparedChats, open_chats
from ml_playground.data_pipeline.sampling.example_batches import ChatData
from ml_playground.data_pipeline.sampling.example_rows import PaddedRows
from ml_playground.data_pipeline.sampling.examples import Examples
from ml_playground.data_pipeline.sampling.fitting_rows import check_fit, check_rows
from ml_playground.data_pipeline.sampling.pair_cutting import whole_pairs
from ml_playground.data_pipeline.sampling.reference_scores import Reference, kept_scores
from ml_playground.data_pipeline.sampling.shapes import padded_widths
from ml_playground.data_pipeline.settings import PreferencePairs

NOT_SCORED = np.zeros(0, dtype=np.float32)


class PairRows:
    """The pairs of a split (sampling.example_rows.BatchRows): pieces 2k and 2k + 1 are pair k."""

    def __init__(self, examples: Examples, settings: PreferencePairs) -> None:
        self.pieces = PaddedRows(examples, settings)
        self.pieces.cut = self.cut = whole_pairs(self.pieces.cut)
        self.pieces.widths = padded_widths(self.cut.positions, settings)
        self.scores: NDArray[np.float32] = NOT_SCORED
        """(P,) log-probability of each piece by the reference; set before a batch is asked for."""

    def __len__(self) -> int:
        """B of all."""
        return len(self.cut.rows) // 2

    def batch(self, numbers: NDArray[np.int64]) -> PairBatch:
        """The pairs of these numbers, (B,).

        Raises:
            DataError: Their files are no longer what they were.
        """
        pieces = np.stack([2 * numbers, 2 * numbers + 1], axis=1).ravel()
        return PairBatch(self.pieces.batch(pieces), torch.from_numpy(self.scores[pieces]))

    def pieces_of(self, number: int) -> NDArray[np.int64]:
        """The better answer and the worse one."""
        return np.array([2 * number, 2 * number + 1])

    @property
    def widths(self) -> NDArray[np.int64]:
        """Of each pair, as long as its longer answer."""
        return self.pieces.widths.reshape(-1, 2).max(1)

    @property
    def targets(self) -> NDArray[np.int64]:
        """Of each pair."""
        return self.cut.targets.reshape(-1, 2).sum(1)

    @property
    def evaluation_order(self) -> NDArray[np.int64]:
        """The longest first: so pairs of about one length meet, and little is padded."""
        return np.argsort(-self.cut.positions.reshape(-1, 2).max(1), kind="stable")


class PairData(ChatData[PairBatch]):
    """Prepared preferences as batches of pairs."""

    def __init__(
        self,
        settings: PreferencePairs,
        prepared: PreparedChats,
        examples: Mapping[str, Examples],
        rows: Mapping[str, PairRows],
        seed: int,
        reference: str,
    ) -> None:
        """`reference`: sha256 over the reference model, for with another one the same pairs are other data."""
        super().__init__(settings, prepared, examples, rows, seed, PairBatch.pinned)
        self.fingerprint = hashlib.sha256(f"{self.fingerprint} {reference}".encode()).hexdigest()


def build(settings: PreferencePairs, folder: Path, seed: int) -> PairData:
    """The batches over prepared preferences; what the reference makes of them is computed unless it lies in the cache.

    Raises:
        DataError: They are missing or damaged, no pairs, too long, or the reference cannot read them.
        ConfigError: There is no such reference.
    """
    prepared = open_pairs(folder)
    examples = {split: prepared.rows(split) for split in prepared.manifest.splits}
    check_fit(folder, examples, settings)
    rows = {split: PairRows(held, settings) for split, held in examples.items()}
    check_rows(folder, {split: held.cut for split, held in rows.items()}, settings)
    reference: Reference = load_object(families.REFERENCE)(settings.reference, prepared.tokenizer_folder)
    scores = kept_scores(
        prepared.fingerprint, reference, {split: held.pieces for split, held in rows.items()}, settings
    )
    for split, held in rows.items():
        held.scores = scores[split]
    return PairData(settings, prepared, examples, rows, seed, reference.fingerprint)


def open_pairs(folder: Path) -> PreparedChats:
    """Prepared preferences.

    Raises:
        DataError: They are missing or damaged, or are no pairs.
    """
    prepared = open_chats(folder)
    if not prepared.manifest.pairs:
        raise DataError(
            f"{folder} holds chats, each by itself, and no pairs of a better and a worse answer; "
            'prepare a source of preferences (prepare.source.kind = "jsonl_preference"), or set data.kind = "padded_examples".'
        )
    return prepared
