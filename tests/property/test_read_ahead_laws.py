"""Reading ahead changes when a batch is made, never which one it is."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.data_pipeline.sampling.read_ahead import DEPTH, ReadAhead
from ml_playground.data_pipeline.sampling.token_windows import TrainingBatches, Windows
from ml_playground.data_pipeline.settings import TokenWindows

indices = st.lists(st.integers(0, 40), min_size=1, max_size=12)
runs = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), min_size=1, max_size=4).map(
    lambda starts: [first + number for first, count in starts for number in range(count)]
)


class Counting:
    """Batches that are their number; fails where it is told to, and counts what it is asked."""

    def __init__(self, broken: frozenset[int] = frozenset()) -> None:
        self.asked: list[int] = []
        self.threads: set[str] = set()
        self._broken = broken

    def batch_at(self, index: int) -> int:
        self.asked.append(index)
        self.threads.add(threading.current_thread().name)
        if index in self._broken:
            raise DataError(f"batch {index} cannot be read")
        return index


def asked_of(ahead: ReadAhead[int], order: list[int]) -> list[int | str]:
    """What each request gives: a batch, or the text of its error."""
    answers: list[int | str] = []
    for index in order:
        try:
            answers.append(ahead.batch_at(index))
        except DataError as error:
            answers.append(str(error))
    return answers


@settings(max_examples=30)
@given(indices | runs, st.integers(2, 200), st.integers(1, 5), st.integers(0, 99))
def test_batches_asked_in_any_order_are_those_of_the_source(
    order: list[int], tokens: int, rows: int, seed: int
) -> None:
    """Forwards, backwards, again and after a jump: bit for bit."""
    windows = Windows(np.arange(tokens, dtype=np.uint16), min(7, tokens - 1))
    source = TrainingBatches(windows, TokenWindows(sequence_tokens=min(7, tokens - 1), micro_batch_rows=rows), seed)
    ahead: ReadAhead[TokenBatch] = ReadAhead(source, lambda batch: batch)
    for index in order:
        got, expected = ahead.batch_at(index), source.batch_at(index)
        assert torch.equal(got.ids, expected.ids)
        assert torch.equal(got.labels, expected.labels)
    ahead.close()


@settings(max_examples=30)
@given(indices | runs, st.frozensets(st.integers(0, 45)))
def test_error_of_a_batch_is_raised_where_it_is_asked_for_and_nowhere_else(
    order: list[int], broken: frozenset[int]
) -> None:
    """One that is only read ahead harms nobody; the type is the source's own."""
    ahead = ReadAhead(Counting(broken), lambda batch: batch)
    expected = [f"batch {index} cannot be read" if index in broken else index for index in order]
    assert asked_of(ahead, order) == expected
    ahead.close()


@given(st.integers(1, 30))
def test_batches_in_a_row_are_made_once_each_and_few_ahead(count: int) -> None:
    """Memory holds the depth and no more; one thread alone asks the source."""
    source = Counting()
    ahead = ReadAhead(source, lambda batch: batch)
    for index in range(count):
        ahead.batch_at(index)
        assert max(source.asked) <= index + DEPTH
    ahead.close()
    assert source.asked == list(range(len(source.asked)))
    assert len(source.threads) == 1


def test_next_batch_is_made_before_it_is_asked_for() -> None:
    """That is what it is for."""
    source = Counting()
    made = threading.Event()

    def finish(batch: int) -> int:
        if batch == DEPTH:
            made.set()
        return batch

    ahead = ReadAhead(source, finish)
    ahead.batch_at(0)
    assert made.wait(600)
    ahead.close()


def test_close_leaves_no_thread() -> None:
    """A process that goes on after a run has nothing of it."""
    before = set(threading.enumerate())
    ahead = ReadAhead(Counting(), lambda batch: batch)
    ahead.batch_at(3)
    assert any(thread.name.startswith("read-ahead") for thread in set(threading.enumerate()) - before)
    ahead.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_finished_batches_for_cuda_are_pinned() -> None:
    """Then the host does not wait for the copy."""
    windows = Windows(np.arange(100, dtype=np.uint16), 7)
    ahead = ReadAhead(
        TrainingBatches(windows, TokenWindows(sequence_tokens=7, micro_batch_rows=2), 1), TokenBatch.pinned
    )
    batch = ahead.batch_at(4)
    assert batch.ids.is_pinned()
    assert batch.labels.is_pinned()
    ahead.close()
