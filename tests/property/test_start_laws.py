"""Ctrl-C at any moment of ours, in the start, the work and the end of `mlp`: it leaves with an interrupt's code, without traceback."""

import json
import subprocess
import sys

import pytest

FIRST, MOMENTS = 8, 16

# In this process nothing of ours is loaded; each copy of it runs the command, and is interrupted at one of the calls that it counts.
DRIVER = """
import atexit, json, os, sys, tempfile
from _signal import SIGINT, default_int_handler, getsignal

first, moments = map(int, sys.argv[1:3])
sys.argv[:] = ["mlp", *sys.argv[3:]]

def words(interrupted_at=None):
    with tempfile.TemporaryFile() as told:
        if child := os.fork():
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            told.seek(0)
            return code, told.read().decode()
        os.dup2(told.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        from ml_playground.cli import main
        calls = 0

        def profile(_frame, event, _argument):
            nonlocal calls
            # Before it is Python's, which starts in the same way for every program.
            if event in ("call", "c_call") and getsignal(SIGINT) is not default_int_handler:
                calls += 1
                if calls == interrupted_at:
                    os.kill(os.getpid(), SIGINT)

        if interrupted_at is None:
            atexit.register(lambda: os.write(2, str(calls).encode()))
        sys.setprofile(profile)
        sys.exit(main())

total = int(words()[1].rpartition("\\n")[2])
chosen = [*range(1, first), *(first + (total - first) * part // moments for part in range(moments))]
json.dump([words(moment) for moment in chosen], sys.stdout)
"""


@pytest.mark.usefixtures("uncovered")
@pytest.mark.parametrize("line", ["--help", "experiments"])
def test_an_interrupt_at_any_call_leaves_without_a_traceback(line: str) -> None:
    """While nothing has begun there is nothing to tell; a callback that swallows a KeyboardInterrupt tells a traceback."""
    command = [sys.executable, "-c", DRIVER, str(FIRST), str(MOMENTS), line]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=800)
    ends = [tuple(end) for end in json.loads(done.stdout)]
    assert len(ends) == FIRST - 1 + MOMENTS
    assert set(ends) <= {(130, ""), (130, "error: interrupted.\n")}
