"""Prepared chats as batches, padded or packed, each row exactly once an epoch. B rows, T positions a row."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from ml_playground.core.registry import load_object
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.data_pipeline.chats.chat_dataset import PreparedChats, open_chats
from ml_playground.data_pipeline.sampling.epoch_order import ChosenBatches, EpochBatches, EpochOrder, evaluated
from ml_playground.data_pipeline.sampling.example_rows import BatchRows, PackedRows, PaddedRows
from ml_playground.data_pipeline.sampling.examples import Examples, names_of
from ml_playground.data_pipeline.sampling.fitting_rows import check_fit, check_rows
from ml_playground.data_pipeline.sampling.read_ahead import Source, TrainingSource
from ml_playground.data_pipeline.settings import ExampleRows, PackedExamples, PaddedExamples
from ml_playground.data_pipeline.storage.steady_folder import SteadyFolder

BatchT = TypeVar("BatchT")

LOAD_TOKENIZER = "ml_playground.tokenization.loading:load_tokenizer"


class ChatData(Generic[BatchT]):
    """Prepared chats as batches of rows, or of what else holds them."""

    def __init__(
        self,
        settings: ExampleRows,
        prepared: PreparedChats,
        examples: Mapping[str, Examples],
        rows: Mapping[str, BatchRows[BatchT]],
        seed: int,
        pinned: Callable[[BatchT], BatchT],
    ) -> None:
        """`pinned` gives a batch in memory from which a CUDA device fetches."""
        self._settings, self._prepared = settings, prepared
        # Opened once: what is prepared anew under the same name while this run trains are other chats.
        self._examples, self._splits = examples, rows
        self._tokenizer = SteadyFolder(prepared.tokenizer_folder, prepared.manifest.files)
        self._training = rows["train"]
        self._order = EpochOrder(len(self._training), settings.micro_batch_rows, settings.order, seed, "examples")
        self._ahead = TrainingSource(EpochBatches(self._training.batch, self._order), pinned)

    @property
    def fingerprint(self) -> str:
        """sha256 over the prepared content."""
        return self._prepared.fingerprint

    @property
    def facts(self) -> Mapping[str, int]:
        """vocab_size, sequence_tokens."""
        return {
            "vocab_size": self._prepared.manifest.vocab_size,
            "sequence_tokens": self._settings.sequence_tokens,
        }

    @property
    def attachments(self) -> Mapping[str, Path]:
        """The tokenizer's folder, with the template.

        Raises:
            DataError: It was replaced while the run trains, and is nowhere beside it.
        """
        return {"tokenizer": self._tokenizer.path()}

    @property
    def train(self) -> Source[BatchT]:
        """The training batches, without end."""
        return self._ahead.source

    def reading_ahead(self, device: torch.device) -> AbstractContextManager[None]:
        """Within the block, batches for a CUDA device are made and pinned beside the training."""
        return self._ahead.reading_ahead(device)

    @property
    def micro_batches_per_epoch(self) -> float:
        """Micro-batches that see each row once."""
        return len(self._training) / self._settings.micro_batch_rows

    @property
    def largest_micro_batch(self) -> int:
        """Of the first epoch, the one with the longest rows, and among these that with the most targets."""
        rows = self._settings.micro_batch_rows
        batches = -(-len(self._training) // rows)
        numbers = self._order.numbers(np.arange(batches * rows, dtype=np.int64)).reshape(batches, rows)
        widths, targets = self._training.widths[numbers].max(1), self._training.targets[numbers].sum(1)
        return int(np.lexsort((targets, widths))[-1])

    def rows_at(self, index: int) -> Sequence[Mapping[str, Any]]:
        """For each row of training micro-batch `index`: position, epoch, the chats in it, and their text."""
        rows, examples = self._training, self._examples["train"]
        numbers = self._order.numbers_at(index).tolist()
        pieces = [rows.pieces_of(number).tolist() for number in numbers]
        chats = {int(rows.cut.rows[piece]) for held in pieces for piece in held}
        names = dict(zip(sorted(chats), names_of(self._prepared.folder, "train", sorted(chats)), strict=True))
        decode: Callable[[Sequence[int]], str] = load_object(LOAD_TOKENIZER)(self._tokenizer.path()).decode
        first = index * self._settings.micro_batch_rows
        return [
            {
                "position": first + row,
                "epoch": (first + row) // len(rows),
                "row": number,
                "chats": [names[int(rows.cut.rows[piece])] for piece in held],
                "tokens": int(rows.cut.lengths[held].sum()),
                "targets": int(rows.cut.targets[held].sum()),
                "text": "\n".join(decode(rows.cut.tokens_of(examples, piece).tolist()) for piece in held),
            }
            for row, (number, held) in enumerate(zip(numbers, pieces, strict=True))
        ]

    def split(self, name: str, *, max_batches: int | None = None) -> ChosenBatches[BatchT]:
        """The rows of a split, each once; the largest batch first, the last may have fewer rows.

        At most `max_batches` training batches' worth are spread evenly over the whole split. They come in larger batches than those
        of the training (`rows_without_gradient`), the longest rows first: little is padded where rows of about one length meet.

        Raises:
            DataError: The data set has no such split.
        """
        self._prepared.check_split(name)
        rows, settings = self._splits[name], self._settings
        chosen = evaluated(
            len(rows), settings.micro_batch_rows, settings.sequence_tokens, max_batches, rows.evaluation_order
        )
        return ChosenBatches(rows.batch, chosen)


def build_padded(settings: PaddedExamples, folder: Path, seed: int) -> ChatData[TokenBatch]:
    """The batches over prepared chats, a chat a row.

    Raises:
        DataError: They are missing or damaged, no chats, too long, or nothing is left of a split.
    """
    return _built(settings, folder, seed, lambda examples: PaddedRows(examples, settings))


def build_packed(settings: PackedExamples, folder: Path, seed: int) -> ChatData[TokenBatch]:
    """The batches over prepared chats, several a row.

    Raises:
        DataError: They are missing or damaged, no chats, too long, or nothing is left of a split.
    """
    return _built(settings, folder, seed, lambda examples: PackedRows(examples, settings))


def _built(
    settings: ExampleRows, folder: Path, seed: int, rows_of: Callable[[Examples], BatchRows[TokenBatch]]
) -> ChatData[TokenBatch]:
    prepared = open_chats(folder)
    examples = {split: prepared.rows(split) for split in prepared.manifest.splits}
    check_fit(folder, examples, settings)
    rows = {split: rows_of(held) for split, held in examples.items()}
    check_rows(folder, {split: held.cut for split, held in rows.items()}, settings)
    return ChatData(settings, prepared, examples, rows, seed, TokenBatch.pinned)
