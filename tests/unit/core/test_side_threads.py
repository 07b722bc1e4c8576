"""Threads that are a help, not a need."""

from concurrent.futures import Future
from pathlib import Path
from threading import Thread, current_thread

import pytest
import torch

from ml_playground.core.side_threads import SideThread, started
from ml_playground.core.torch_tensors import read_tensors, write_tensors
from tests.fakes.no_threads import no_threads


def test_calls_are_made_in_their_order_on_one_other_thread() -> None:
    """Whatever they return."""
    with SideThread("beside") as thread:
        made = [thread.submit(lambda number=number: (number, current_thread())) for number in range(5)]
    assert [one.result()[0] for one in made] == [*range(5)]
    assert {one.result()[1].name for one in made} == {"beside_0"}


def test_without_room_for_a_thread_calls_are_made_at_once() -> None:
    """Each once, also when there is room again; what goes wrong with one is raised at once."""
    calls: list[int] = []

    def call(number: int) -> Thread:
        calls.append(number)
        return current_thread()

    with SideThread(initializer=lambda: calls.append(-1)) as thread:
        with no_threads():
            made: list[Future[Thread]] = [thread.submit(call, number) for number in (1, 2)]
            assert calls == [1, 2]
        made.append(thread.submit(call, 3))
    assert calls == [1, 2, 3]
    assert made[0].result() is made[2].result() is current_thread()
    with no_threads(), SideThread() as thread, pytest.raises(ValueError, match="two"):
        thread.submit(int, "two")


def test_started_says_whether_there_was_room() -> None:
    """And the thread has done its work only where there was."""
    done: list[int] = []
    with no_threads():
        assert not started(Thread(target=done.append, args=(1,)))
    thread = Thread(target=done.append, args=(2,))
    assert started(thread)
    thread.join()
    assert done == [2]


def test_tensors_written_without_room_for_a_thread_are_the_same(tmp_path: Path) -> None:
    """Bytes and hash."""
    tensors = {"a": torch.arange(1000.0), "b": torch.ones(3, dtype=torch.int8)}
    beside = write_tensors(tmp_path / "beside", tensors)
    with no_threads():
        alone = write_tensors(tmp_path / "alone", tensors)
    assert alone == beside
    assert (tmp_path / "alone").read_bytes() == (tmp_path / "beside").read_bytes()
    assert torch.equal(read_tensors(tmp_path / "alone")["a"], tensors["a"])
