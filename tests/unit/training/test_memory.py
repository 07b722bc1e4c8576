"""A lack of memory: what is said, and how a step is computed in parts that fit."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.course import Split
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.training.guard import Guard, cut_of
from ml_playground.training.memory import (
    Divide,
    Room,
    UpdateOutOfMemoryError,
    is_out_of_memory,
    not_in_parts,
    same_step,
    what_to_change,
)
from tests.fakes.hooks import Told
from tests.fakes.memory_journal import MemoryJournal
from tests.fakes.tiny_job import tiny_job


@given(st.integers(1, 500), st.integers(1, 20))
def test_same_step_has_as_many_rows_in_smaller_batches(rows: int, count: int) -> None:
    """What is advised is the same step, in at most half the rows where there is more than one."""
    smaller, more = same_step(rows, count)
    assert smaller * more == rows * count
    assert smaller <= max(1, rows // 2)


@given(st.integers(1, 40), st.integers(1, 50))
def test_divide_gives_every_row_once_in_order(rows: int, parts: int) -> None:
    """Together the parts are the batch; none has more rows than an even division needs."""
    batch = TokenBatch(torch.arange(rows * 3).view(rows, 3), -torch.arange(rows * 3).view(rows, 3))
    divide = Divide(parts)
    pieces: Sequence[Any] = divide(batch)
    assert torch.equal(torch.cat([piece.ids for piece in pieces]), batch.ids)
    assert torch.equal(torch.cat([piece.labels for piece in pieces]), batch.labels)
    assert len(pieces) <= parts
    assert divide.most_rows == max(piece.rows for piece in pieces) == -(-rows // parts)


def test_divide_in_one_part_is_the_batch_itself() -> None:
    """Nothing is copied, and no operation done, in a run that was never short of memory."""
    batch = TokenBatch(torch.zeros(4, 3), torch.zeros(4, 3))
    assert Divide(1)(batch)[0] is batch


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_is_out_of_memory_knows_every_device_s_words(error: BaseException, expected: bool) -> None:
    """And takes no other error for one."""
    assert is_out_of_memory(error) is expected


def test_real_allocation_that_fails_is_out_of_memory() -> None:
    """The words of the CPU's allocator, as this version of torch says them."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


def test_what_to_change_names_settings_and_values(tmp_path: Path) -> None:
    """The same step in half the memory, or the setting that does it."""
    job = tiny_job(tmp_path, data={"micro_batch_rows": 12}, train={"micro_batches_per_step": 2})
    assert what_to_change(MemoryError(), job, by_rows=True) == (
        "out of memory; the same step in less memory: data.micro_batch_rows = 6 and train.micro_batches_per_step = 4 "
        "(they are 12 and 2); or let the run see to it: --set runtime.on_out_of_memory=split goes on with this run"
    )


def test_what_to_change_where_rows_would_not_help(tmp_path: Path) -> None:
    """A single row, or the model itself, is too large."""
    job = tiny_job(tmp_path, data={"micro_batch_rows": 1}, train={"ema_decay": 0.9})
    error = RuntimeError("CUDA out of memory.\nTried")
    assert what_to_change(error, job, by_rows=True) == (
        "CUDA out of memory.; fewer rows would not help: halve data.sequence_tokens (to 8), set "
        "runtime.activation_checkpointing = true, set train.ema_decay = 0 or make the model smaller, by fewer layers or a "
        "smaller width, and start anew: --fresh"
    )
    bare = tiny_job(
        tmp_path, data={"micro_batch_rows": 1, "sequence_tokens": 1}, runtime={"activation_checkpointing": True}
    )
    assert what_to_change(MemoryError(), bare, by_rows=True) == (
        "out of memory; fewer rows would not help: make the model smaller, by fewer layers or a smaller width, and start anew: --fresh"
    )


def test_what_to_change_of_another_error_is_nothing(tmp_path: Path) -> None:
    """It is told as what it is."""
    assert what_to_change(ValueError("no"), tiny_job(tmp_path), by_rows=True) is None


def test_not_in_parts_marks_a_lack_of_memory_alone() -> None:
    """Whatever else goes wrong inside stays what it is."""
    with pytest.raises(UpdateOutOfMemoryError, match="out of memory"), not_in_parts():
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shapes"), not_in_parts():
        raise RuntimeError("shapes")


class Narrow:
    """A device on which a batch of at most so many rows fits; what is computed is the batch's sum."""

    def __init__(self, rows: int, error: Callable[[], BaseException] = MemoryError) -> None:
        self._rows = rows
        self._error = error
        self.tried: list[list[int]] = []

    def compute(self, batch: TokenBatch) -> Callable[[Divide], int]:
        """Adds up all rows, or runs out of memory."""

        def run(divide: Divide) -> int:
            self.tried.append([])
            total = 0
            for piece in divide(batch):
                self.tried[-1].append(piece.rows)
                if piece.rows > self._rows:
                    raise self._error()
                total += int(piece.ids.sum())  # type: ignore[attr-defined]
            return total

        return run


class Roomy:
    """A room with all that is around it."""

    def __init__(self, folder: Path, policy: str = "split", **sections: Any) -> None:
        self.job = tiny_job(folder, runtime={"on_out_of_memory": policy}, **sections)
        self.guard = Guard(self.job.train, cut_of(self.job))
        self.journal = MemoryJournal()
        self.told = Told()
        self.room = Room(self.job, self.guard, self.journal, self.told)


BATCH = TokenBatch(torch.arange(8).view(8, 1), torch.zeros(8, 1))


@pytest.mark.parametrize(("fits", "tries"), [(8, 1), (7, 2), (4, 2), (3, 3), (1, 4)])
def test_fitting_halves_until_it_fits_and_stays_so(fits: int, tries: int, tmp_path: Path) -> None:
    """Each try begins anew; the next step begins with what fitted."""
    roomy, narrow = Roomy(tmp_path), Narrow(fits)
    assert roomy.room.fitting("training", 5, narrow.compute(BATCH)) == 28
    assert len(narrow.tried) == tries
    assert roomy.room.fitting("training", 6, narrow.compute(BATCH)) == 28
    assert len(narrow.tried) == tries + 1
    assert len(roomy.told) == len(roomy.journal.notes) == tries - 1


def test_fitting_notes_what_a_resumed_run_needs_and_tells_what_happened(tmp_path: Path) -> None:
    """The event is the split itself; the line names step, phase and parts."""
    roomy = Roomy(tmp_path, model={"dropout": 0.1})
    roomy.room.fitting("evaluation", 1200, Narrow(4).compute(BATCH))
    ((kind, step, data),) = roomy.journal.notes
    assert (kind, step, data["problem"]) == ("split", 1200, "out of memory")
    assert Split.model_validate(data) == roomy.guard.course.splits[0]
    (line,) = roomy.told
    assert line == (
        "step 1,200: evaluation ran out of memory (out of memory); from here on each micro-batch is computed in 2 parts, "
        "which changes nothing but the order of a sum, and which units dropout drops"
    )


def test_fitting_single_rows_that_do_not_fit_is_raised(tmp_path: Path) -> None:
    """There is nothing left to halve, and the advice knows."""
    roomy = Roomy(tmp_path)
    with pytest.raises(MemoryError) as raised:
        roomy.room.fitting("training", 1, Narrow(0).compute(BATCH))
    assert roomy.guard.parts("training", 1) == 8
    assert "fewer rows would not help" in (roomy.room.advice(raised.value) or "")


def test_fitting_by_default_is_raised_at_once(tmp_path: Path) -> None:
    """A run changes how it computes only where its user said so."""
    roomy, narrow = Roomy(tmp_path, policy="stop"), Narrow(4)
    with pytest.raises(MemoryError) as raised:
        roomy.room.fitting("training", 1, narrow.compute(BATCH))
    assert narrow.tried == [[8]]
    assert "data.micro_batch_rows = 2" in (roomy.room.advice(raised.value) or "")


@pytest.mark.parametrize("error", [lambda: RuntimeError("shapes"), lambda: UpdateOutOfMemoryError("half done")])
def test_fitting_other_errors_and_half_done_updates_are_not_tried_again(
    error: Callable[[], BaseException], tmp_path: Path
) -> None:
    """A step that has moved some weights must not be made twice."""
    roomy, narrow = Roomy(tmp_path), Narrow(4, error)
    with pytest.raises((RuntimeError, MemoryError)):
        roomy.room.fitting("training", 1, narrow.compute(BATCH))
    assert narrow.tried == [[8]]


def test_advice_after_a_half_done_update_is_not_about_rows(tmp_path: Path) -> None:
    """An update takes the same memory whatever the rows are."""
    advice = Roomy(tmp_path, policy="stop").room.advice(UpdateOutOfMemoryError("CUDA out of memory"))
    assert advice == (
        "CUDA out of memory; neither fewer rows nor a shorter context would help where the weights are updated: make the model "
        "smaller, by fewer layers or a smaller width, and start anew: --fresh"
    )


def test_advice_after_a_half_done_update_names_what_takes_memory_there(tmp_path: Path) -> None:
    """Muon's iteration and averaged weights; also where the run would divide its batches."""
    roomy = Roomy(tmp_path, optimizer={"kind": "muon"}, train={"ema_decay": 0.9})
    advice = roomy.room.advice(UpdateOutOfMemoryError("CUDA out of memory"))
    assert advice is not None
    assert advice.endswith(
        "where the weights are updated: set optimizer.kind = adamw (muon makes room for its updates, adamw needs none), set "
        "train.ema_decay = 0 or make the model smaller, by fewer layers or a smaller width, and start anew: --fresh"
    )
