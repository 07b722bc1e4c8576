"""`mlp chat` where somebody sits before it: control characters, Ctrl-C, Ctrl-D."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.commands.test_sample_chat import chat_run

ON_A_TERMINAL = """
import fcntl, os, signal, sys, termios
from ml_playground.cli import main

os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv = ["mlp", "chat", *sys.argv[1:]]
code = main()
print(signal.getitimer(signal.ITIMER_REAL)[0], "seconds to live.")
sys.exit(code)
"""
"""A process whose Ctrl-C is that of the terminal on its stdin."""


@contextmanager
def chat_on_a_terminal(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`mlp chat` of the newest run with its first prompt shown, and what is the keyboard and the screen of its terminal."""
    master, slave = pty.openpty()
    command = [sys.executable, "-c", ON_A_TERMINAL, "bottles", *words]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=os.environ | {"TERM": "dumb"})
    os.close(slave)
    try:
        read_until(master, b"user: ")
        yield process, master
    finally:
        process.kill()
        process.wait()
        os.close(master)


def read_until(master: int, text: bytes, seen: bytes = b"", *, nudge: bytes = b"") -> bytes:
    """What a terminal shows up to a text, from `seen` on; a key is pressed each time that it shows nothing for two seconds."""
    end = time.monotonic() + 600
    while text not in seen and time.monotonic() < end:
        if select.select([master], [], [], 2.0)[0]:
            seen += os.read(master, 1 << 16)
        else:
            os.write(master, nudge)
    assert text in seen, seen[-300:]
    return seen


@pytest.mark.usefixtures("uncovered")
def test_chat_on_a_terminal_is_not_disturbed_and_left_with_ctrl_c(tmp_path: Path) -> None:
    """Where the model writes control characters alone none arrives; Ctrl-C ends the answer, and once more leaves."""
    # So long that no answer ends by itself before Ctrl-C comes.
    noise = "".join(map(chr, (*range(32), 126, 127))) * 300
    chat_run(tmp_path, profile={"kind": "plain_sft", "text_bias": {noise: 1000.0}})
    with chat_on_a_terminal("--max-new-tokens", "100000", "--temperature", "3") as (process, master):
        os.write(master, b"Hi\n")
        seen = read_until(master, b"assistant: ").partition(b"assistant: ")[2]
        seen = read_until(master, b"~", seen)
        os.write(master, b"\x03")
        seen = read_until(master, b"user: ", seen)
        assert not set(seen) & {*range(9), *range(14, 32), 127}
        assert b"Ctrl-C once more leaves" in seen
        os.write(master, b"\x03")
        # One that comes while readline sets up its line is only heard at the next key, be it Ctrl-D.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with contextlib.suppress(OSError):
            os.write(master, b"\x04")
        assert process.wait(600) == 0


@pytest.mark.usefixtures("uncovered")
def test_chat_on_a_terminal_one_ctrl_c_at_the_prompt_ends_nothing_later(tmp_path: Path) -> None:
    """Whoever goes on after it is not thrown out when the time for leaving would be over."""
    chat_run(tmp_path)
    with chat_on_a_terminal() as (process, master):
        os.write(master, b"\x03")
        read_until(master, b"(once more, or Ctrl-D, to leave)", nudge=b"\n")
        os.write(master, b"/quit\n")
        assert b"\n0.0 seconds" in read_until(master, b"seconds to live.")
        assert process.wait(600) == 0
