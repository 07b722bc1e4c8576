"""Chats in batches: how long planning and cutting take, how full rows are, and what the head saves where few positions are targets.

Seconds of one thread's own time, the least of several rounds, each pair in turn: `python benchmarks/chat_batches.py`.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ml_playground.data_pipeline.batches import NO_TARGET
from ml_playground.data_pipeline.sampling.epoch_order import EpochBatches, EpochOrder
from ml_playground.data_pipeline.sampling.example_rows import PackedRows, PaddedRows
from ml_playground.data_pipeline.sampling.fates import packed_fates, padded_fates
from ml_playground.data_pipeline.settings import PackedExamples, PaddedExamples

CHATS, LENGTH, ROWS, BATCHES = 1_000_000, 1024, 8, 200
T = TypeVar("T")


class ManyChats:
    """Lengths about 200 tokens, spread as those of real chats are; four tokens of ten are targets."""

    def __init__(self, seed: int) -> None:
        drawn = np.random.default_rng(seed).lognormal(5.3, 0.8, CHATS)
        self.lengths: NDArray[np.int64] = np.clip(drawn.astype(np.int64), 4, LENGTH + 1)
        self.starts: NDArray[np.int64] = np.cumsum(self.lengths) - self.lengths
        places = np.arange(int(self.lengths.sum()))
        self.token_weights: NDArray[np.float32] = (places % 100 >= 60).astype(np.float32)
        self.tokens: NDArray[np.uint16] = (places % 1000).astype(np.uint16)

    def check(self) -> None:
        """Nothing can change."""


def seconds(work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and the thread's own time for it."""
    began = time.thread_time()
    found = work()
    return found, time.thread_time() - began


def batches() -> None:
    """Both kinds over a million chats."""
    chats = ManyChats(0)
    print(f"{CHATS:,} chats, {len(chats.tokens) / 1e6:.0f} M tokens, rows of {LENGTH}, {ROWS} a batch")
    padded, packed = (
        PaddedExamples(sequence_tokens=LENGTH, micro_batch_rows=ROWS),
        PackedExamples(sequence_tokens=LENGTH, micro_batch_rows=ROWS),
    )
    for name, rows_of, fates_of in (
        ("padded", lambda: PaddedRows(chats, padded), lambda rows: padded_fates(rows.cut, padded)),
        ("packed", lambda: PackedRows(chats, packed), lambda rows: packed_fates(rows.cut, packed)),
    ):
        rows, built_s = seconds(rows_of)
        source = EpochBatches(rows.batch, EpochOrder(len(rows), ROWS, "random", 1, "examples"))
        source.batch_at(0)
        _, made_s = seconds(lambda source=source: [source.batch_at(index) for index in range(BATCHES)])
        fates = fates_of(rows)
        filled = (fates.trained + fates.masked) / (fates.trained + fates.masked + fates.padding)
        print(f"{name}: built in {built_s:.2f} s, {1000 * made_s / BATCHES:.3f} ms a batch, {filled:.2%} filled")


def whole(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """The head over all positions."""
    logits = functional.linear(hidden, weight)
    return functional.cross_entropy(logits, labels, ignore_index=NO_TARGET, reduction="sum")


def gathered(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """The head over those with a label."""
    known = torch.from_numpy(np.flatnonzero(labels.numpy() != NO_TARGET))
    return whole(hidden.index_select(0, known), weight, labels.index_select(0, known))


def heads(positions: int = 2048, width: int = 384, vocabulary: int = 2048, rounds: int = 7) -> None:
    """Forward and backward, by the share of positions that are targets."""
    hidden = torch.randn(positions, width, requires_grad=True)
    weight = (0.02 * torch.randn(vocabulary, width)).requires_grad_()
    for share in (0.1, 0.3, 0.5, 0.9, 1.0):
        labels = torch.randint(vocabulary, (positions,))
        labels[torch.rand(positions) >= share] = NO_TARGET
        best = {"whole": np.inf, "gathered": np.inf}
        for _ in range(rounds):
            for name, loss in (("whole", whole), ("gathered", gathered)):
                _, spent_s = seconds(lambda loss=loss, labels=labels: loss(hidden, weight, labels).backward())
                best[name] = min(best[name], spent_s)
        times = ", ".join(f"{name} {1000 * spent_s:.1f} ms" for name, spent_s in best.items())
        print(f"head, {share:.0%} targets: {times}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    batches()
    heads()
