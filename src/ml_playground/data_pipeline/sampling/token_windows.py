"""Windows of consecutive tokens, each exactly once an epoch. B rows, T tokens a row."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import load_object
from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.data_pipeline.sampling.epoch_order import ChosenBatches, EpochBatches, EpochOrder, evaluated
from ml_playground.data_pipeline.sampling.prepared_batches import PreparedBatches, token_facts
from ml_playground.data_pipeline.sampling.window_rows import described_rows
from ml_playground.data_pipeline.settings import TokenWindows
from ml_playground.data_pipeline.storage.open_array import OpenArray
from ml_playground.data_pipeline.storage.token_file import stored_type
from ml_playground.data_pipeline.text_dataset import PreparedText, open_text

PADDING_ID = 0
LOAD_TOKENIZER = "ml_playground.tokenization.loading:load_tokenizer"


def _nothing_can_change() -> None:
    """Tokens in memory."""


class Windows:
    """A split as windows of T + 1 tokens at stride T; the last one may be shorter, and is padded where it is cut out."""

    def __init__(
        self,
        tokens: NDArray[np.uint16 | np.uint32],
        sequence_tokens: int,
        check: Callable[[], None] = _nothing_can_change,
    ) -> None:
        """`check` raises where the tokens are no longer what they were."""
        self.tokens = tokens
        self._check = check
        self._sequence_tokens = sequence_tokens
        targets = len(tokens) - 1
        whole = targets // sequence_tokens
        self._rest = targets % sequence_tokens
        # Views of the map, a row for each whole window: gathering rows copies nothing else.
        shape = (whole, sequence_tokens)
        self._ids = tokens[: whole * sequence_tokens].reshape(shape)
        self._labels = tokens[1 : whole * sequence_tokens + 1].reshape(shape)

    def __len__(self) -> int:
        """Windows, the padded one included."""
        return len(self._ids) + (self._rest > 0)

    def batch(self, numbers: NDArray[np.int64]) -> TokenBatch:
        """The windows of these numbers: ids and labels (B, T) int64.

        Raises:
            DataError: The tokens are no longer what they were.
        """
        # Before, for what was cut off from a mapped file must not be touched; after, for what is handed out must be sound.
        self._check()
        whole = len(self._ids)
        within = np.minimum(numbers, whole - 1)
        ids = np.empty((len(numbers), self._sequence_tokens), dtype=np.int64)
        labels = np.empty_like(ids)
        ids[:] = self._ids[within]
        labels[:] = self._labels[within]
        last = numbers == whole
        if last.any():
            ids[last], labels[last] = PADDING_ID, NO_TARGET
            tail = self.tokens[whole * self._sequence_tokens :]
            ids[last, : self._rest] = tail[:-1]
            labels[last, : self._rest] = tail[1:]
        self._check()
        return TokenBatch(torch.from_numpy(ids), torch.from_numpy(labels))


class TrainingBatches(EpochBatches[TokenBatch]):
    """Batches of windows without end: row r of batch i is position i * B + r, epoch after epoch."""

    def __init__(self, windows: Windows, settings: TokenWindows, seed: int) -> None:
        order = EpochOrder(len(windows), settings.micro_batch_rows, settings.order, seed, "windows")
        super().__init__(windows.batch, order)


class TokenWindowData(PreparedBatches[TokenBatch]):
    """A prepared text as batches of windows."""

    def __init__(
        self,
        settings: TokenWindows,
        prepared: PreparedText,
        seed: int,
        before: Mapping[Path, os.stat_result] | None = None,
    ) -> None:
        """`before`: the states of its files before they were compared with their hashes."""
        self._settings = settings
        self._prepared = prepared
        self._before = before or {}
        _check_length(prepared, settings.sequence_tokens)
        self._splits = {name: self._opened(name) for name in prepared.manifest.splits}
        self._training = self._splits["train"]
        self._batches = TrainingBatches(self._training, settings, seed)
        super().__init__(
            prepared,
            self._batches,
            TokenBatch.pinned,
            facts=token_facts(prepared.manifest.vocab_size, settings.sequence_tokens),
            micro_batches_per_epoch=len(self._training) / settings.micro_batch_rows,
        )

    def rows_at(self, index: int) -> Sequence[Mapping[str, Any]]:
        """For each row of training micro-batch `index`: position, epoch, window, first token, document, and its text."""
        return described_rows(
            self._batches.numbers_at(index),
            first_position=index * self._settings.micro_batch_rows,
            windows=len(self._training),
            sequence_tokens=self._settings.sequence_tokens,
            tokens=self._training.tokens,
            document_starts=self._prepared.document_starts("train"),
            decode=load_object(LOAD_TOKENIZER)(self.attachments["tokenizer"]).decode,
        )

    def _opened(self, name: str) -> Windows:
        """A split's windows over its file."""
        manifest = self._prepared.manifest
        path = self._prepared.folder / f"{name}.tokens"
        kind = stored_type(manifest.token_type)
        tokens = OpenArray(path, kind, manifest.files[path.name].sha256, self._before.get(path))
        return Windows(tokens.numbers, self._settings.sequence_tokens, tokens.check)

    def split(self, name: str, *, max_batches: int | None = None) -> ChosenBatches[TokenBatch]:
        """The windows of a split in order, each once; the last batch may have fewer rows.

        At most `max_batches` training batches' worth are spread evenly over the whole split: its beginning alone would stand
        for nothing but itself. They come in larger batches than those of the training (`rows_without_gradient`).

        Raises:
            DataError: The data set has no such split.
        """
        if name not in self._splits:
            self._prepared.tokens(name)  # It says which splits there are.
        windows, settings = self._splits[name], self._settings
        chosen = evaluated(len(windows), settings.micro_batch_rows, settings.sequence_tokens, max_batches)
        return ChosenBatches(windows.batch, chosen)


def build(settings: TokenWindows, folder: Path, seed: int) -> TokenWindowData:
    """The batches over a prepared text.

    Raises:
        DataError: It is missing or damaged, or a split is shorter than one window.
    """
    before = {path: path.stat() for path in folder.glob("*.tokens")}
    return TokenWindowData(settings, open_text(folder), seed, before)


def _check_length(prepared: PreparedText, sequence_tokens: int) -> None:
    """Each split must hold a window of T + 1 tokens."""
    tokens = {name: counts.tokens for name, counts in prepared.manifest.ledger.splits.items()}
    shortest = min(tokens, key=tokens.__getitem__)
    if tokens[shortest] > sequence_tokens:
        return
    largest = tokens[shortest] - 1
    fits = f"set data.sequence_tokens to {largest} or less" if largest else "no data.sequence_tokens fits"
    share = "lower prepare.val_fraction" if shortest == "train" else f"raise prepare.{shortest}_fraction"
    raise DataError(
        f"{prepared.folder} is too short for data.sequence_tokens = {sequence_tokens}: a window needs "
        f"{sequence_tokens + 1} tokens, but the split {shortest!r} has {tokens[shortest]} "
        f"(of {', '.join(f'{name} {count}' for name, count in tokens.items())}); {fits}, {share}, "
        "or give the source more text."
    )
