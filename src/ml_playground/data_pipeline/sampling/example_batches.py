"""Prepared chats as batches, padded or packed, each row exactly once an epoch. B rows, T positions a row."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ml_playground.core.registry import load_object
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.data_pipeline.chats.chat_dataset import PreparedChats, open_chats
from ml_playground.data_pipeline.sampling.epoch_order import ChosenBatches, EpochBatches, EpochOrder, evaluated
from ml_playground.data_pipeline.sampling.example_rows import BatchRows, PackedRows, PaddedRows
from ml_playground.data_pipeline.sampling.examples import Examples, names_of
from ml_playground.data_pipeline.sampling.fitting_rows import check_fit, check_rows
from ml_playground.data_pipeline.sampling.prepared_batches import PreparedBatches, token_facts
from ml_playground.data_pipeline.settings import ExampleRows, PackedExamples, PaddedExamples

BatchT = TypeVar("BatchT")

LOAD_TOKENIZER = "ml_playground.tokenization.loading:load_tokenizer"


class ChatData(PreparedBatches[BatchT]):
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
        self._examples, self._splits = examples, rows
        self._training = rows["train"]
        self._order = EpochOrder(len(self._training), settings.micro_batch_rows, settings.order, seed, "examples")
        super().__init__(
            prepared,
            EpochBatches(self._training.batch, self._order),
            pinned,
            facts=token_facts(prepared.manifest.vocab_size, settings.sequence_tokens),
            micro_batches_per_epoch=len(self._training) / settings.micro_batch_rows,
        )

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
        decode: Callable[[Sequence[int]], str] = load_object(LOAD_TOKENIZER)(self.attachments["tokenizer"]).decode
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
