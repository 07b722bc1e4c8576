"""Unit tests of `ml_playground.core.leaving`."""

import signal
import subprocess
import sys
import time

import pytest

from ml_playground.core.leaving import ALARMS, leave_at_once

DRIVER = """
import atexit, os, signal, sys, threading
from ml_playground.core import leaving

def say_how_long():
    print("seconds to live:", signal.getitimer(signal.ITIMER_REAL)[0], file=sys.stderr)

atexit.register(say_how_long)
leaving.CLEANS_UP_WITHIN_S = {within_s}
leaving.limit_cleaning()
lock = threading.Lock()
lock.acquire()
try:
    with leaving.interruptible():
        os.kill(os.getpid(), signal.SIGINT)
{then}:
    {cleaning}
"""


def ended(cleaning: str, within_s: float = 600.0, then: str = "finally") -> tuple[int, str, float]:
    """Exit code, words and seconds of a program that gets Ctrl-C and cleans up so, for which it has so many seconds."""
    began_s = time.monotonic()
    program = [sys.executable, "-c", DRIVER.format(cleaning=cleaning, within_s=within_s, then=then)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=600)
    return done.returncode, done.stderr, time.monotonic() - began_s


def test_cleaning_up_that_waits_for_a_lock_for_ever_is_left_undone() -> None:
    """Said, and with the code of an interrupt."""
    code, told, seconds = ended("lock.acquire()", 0.3)
    assert (code, told) == (130, "\nerror: interrupted; cleaning up took too long and was left undone.\n")
    assert seconds > 0.3


def test_cleaning_up_that_takes_a_moment_is_done() -> None:
    """The limit is for what hangs."""
    code, told, _ = ended("print('clean', file=sys.stderr, flush=True)")
    assert (code, told.splitlines()[0]) == (-signal.SIGINT, "clean")


def test_once_the_cleaning_is_over_no_alarm_comes() -> None:
    """The interpreter, which gives its memory back then, would be killed by it."""
    code, told, _ = ended("pass")
    assert (code, told.splitlines()[-2:]) == (-signal.SIGINT, ["KeyboardInterrupt", "seconds to live: 0.0"])


@pytest.mark.parametrize(("alarms", "code"), [(ALARMS - 1, -signal.SIGINT), (ALARMS, 130)])
def test_the_last_of_some_alarms_ends_the_cleaning(alarms: int, code: int) -> None:
    """Those of a time in which the machine stood still come as one, which alone is no reason to leave."""
    assert ended(f"for _ in range({alarms}): os.kill(os.getpid(), signal.SIGALRM)")[0] == code


def test_who_answers_an_interrupt_and_stays_has_all_the_time_again() -> None:
    """A program that goes on is not ended later."""
    assert ended("leaving.stay(); say_how_long()", then="except KeyboardInterrupt")[:2] == (
        0,
        "seconds to live: 0.0\nseconds to live: 0.0\n",
    )


def test_who_uses_us_as_a_library_may_answer_an_interrupt_and_go_on() -> None:
    """Nothing ends the process later."""
    # What watches over the tests may have set the same clock, to minutes.
    before_s, _ = signal.getitimer(signal.ITIMER_REAL)
    with pytest.raises(KeyboardInterrupt):
        leave_at_once(signal.SIGINT, None)
    after_s, _ = signal.getitimer(signal.ITIMER_REAL)
    # A limit of ours would be seconds.
    assert before_s - 60 < after_s <= before_s
