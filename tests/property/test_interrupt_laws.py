"""An interrupt may fall between any two instructions of a write; the writes that its answer needs must still succeed."""

import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ml_playground.core.atomic import append_lines, write_file

Writer = Callable[[Path, str], None]


def as_line(path: Path, text: str) -> None:
    """One line more."""
    append_lines(path, [text])


def as_file(path: Path, text: str) -> None:
    """The whole file."""
    write_file(path, text, durable=False)


@contextmanager
def interrupted_at(instruction: int) -> Generator[None]:
    """KeyboardInterrupt before the so-many-th instruction of any Python function called inside."""
    left = instruction

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(former)


@contextmanager
def within(seconds: float) -> Generator[None]:
    """TimeoutError if it takes longer, also where it waits for a lock."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError("waits for a lock that nobody will release")

    former = signal.signal(signal.SIGALRM, late)
    # What watches over the tests may have set the same clock.
    left_s, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left_s)
        signal.signal(signal.SIGALRM, former)


@pytest.mark.filterwarnings("ignore:Exception ignored in.*FileIO")
@pytest.mark.parametrize("write", [as_file, as_line])
def test_a_write_that_was_interrupted_anywhere_is_not_in_the_way_of_the_next(write: Writer, tmp_path: Path) -> None:
    """While the interrupt is being answered, as hooks do that tell the end of a run; its traceback then still holds all objects."""
    path = tmp_path / "place" / "text"
    for instruction in count(1):
        try:
            with interrupted_at(instruction):
                write(path, "first")
        except KeyboardInterrupt:
            with within(5):
                write(path, "second")
            assert path.read_text().splitlines()[-1] == "second"
            assert {one.name for one in path.parent.iterdir()} == {"text"}
            path.unlink()
        else:
            break
    assert instruction > 100
