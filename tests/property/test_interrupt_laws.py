"""An interrupt may fall between any two instructions of a write; the writes that its answer needs must still succeed."""

import gc
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

import pytest

from ml_playground.core.atomic import append_lines, write_file

HANGS_AFTER_S = 600

Writer = Callable[[Path, str], None]


def as_line(path: Path, text: str) -> None:
    """One line more."""
    append_lines(path, [text])


def as_file(path: Path, text: str) -> None:
    """The whole file."""
    write_file(path, text, durable=False)


@pytest.fixture
def no_collection() -> Generator[None]:
    """Nothing is collected: the finalizers of what other tests left behind would be interrupted as well."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


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


def assert_in_a_thread(check: Callable[[], None]) -> None:
    """A check that replaces what traces its thread, and that is seen to hang: what traces this thread goes on."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            check()
        except BaseException as error:  # noqa: BLE001 It is raised again below.
            raised.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(HANGS_AFTER_S)
    assert not thread.is_alive(), "waits for a lock that nobody will release"
    if raised:
        raise raised[0]


@pytest.mark.usefixtures("no_collection")
@pytest.mark.filterwarnings("ignore:Exception ignored in.*FileIO")
@pytest.mark.parametrize("write", [as_file, as_line])
def test_a_write_that_was_interrupted_anywhere_is_not_in_the_way_of_the_next(write: Writer, tmp_path: Path) -> None:
    """While the interrupt is being answered, as hooks do that tell the end of a run; its traceback then still holds all objects."""
    path = tmp_path / "place" / "text"
    interruptions = 0

    def check() -> None:
        nonlocal interruptions
        while True:
            try:
                with interrupted_at(interruptions + 1):
                    write(path, "first")
            except KeyboardInterrupt:
                interruptions += 1
                write(path, "second")
                assert path.read_text().splitlines()[-1] == "second"
                assert {one.name for one in path.parent.iterdir()} == {"text"}
                path.unlink()
            else:
                break

    assert_in_a_thread(check)
    assert interruptions > 100
