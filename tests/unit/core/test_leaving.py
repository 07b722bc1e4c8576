"""Unit tests of `ml_playground.core.leaving`."""

import signal
import subprocess
import sys
import time

import pytest

from ml_playground.core.leaving import leave_at_once

DRIVER = """
import os, signal, threading
from ml_playground.core import leaving
leaving.CLEANS_UP_WITHIN_S = {within_s}
leaving.limit_cleaning()
lock = threading.Lock()
lock.acquire()
try:
    os.kill(os.getpid(), signal.SIGINT)
finally:
    {cleaning}
"""


def ended(cleaning: str, within_s: float) -> tuple[int, str, float]:
    """Exit code, words and seconds of a program that gets Ctrl-C and cleans up so, for which it has so many seconds."""
    began_s = time.monotonic()
    program = [sys.executable, "-c", DRIVER.format(cleaning=cleaning, within_s=within_s)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=600)
    return done.returncode, done.stderr, time.monotonic() - began_s


def test_cleaning_up_that_waits_for_a_lock_for_ever_is_left_undone() -> None:
    """Said, and with the code of an interrupt."""
    code, told, seconds = ended("lock.acquire()", 0.3)
    assert (code, told) == (130, "\nerror: interrupted; cleaning up took too long and was left undone.\n")
    assert seconds > 0.3


def test_cleaning_up_that_takes_a_moment_is_done() -> None:
    """The limit is for what hangs."""
    code, told, _ = ended("print('clean', file=__import__('sys').stderr, flush=True)", 60.0)
    assert (code, told.splitlines()[0], told.splitlines()[-1]) == (-signal.SIGINT, "clean", "KeyboardInterrupt")


def test_who_uses_us_as_a_library_may_answer_an_interrupt_and_go_on() -> None:
    """Nothing ends the process later."""
    # What watches over the tests may have set the same clock, to minutes.
    before_s, _ = signal.getitimer(signal.ITIMER_REAL)
    with pytest.raises(KeyboardInterrupt):
        leave_at_once(signal.SIGINT, None)
    after_s, _ = signal.getitimer(signal.ITIMER_REAL)
    # A limit of ours would be seconds.
    assert before_s - 60 < after_s <= before_s
