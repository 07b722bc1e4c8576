"""One call at a time beside the training."""

import os
import sys
import threading

import pytest

from ml_playground.core.side_threads import SideThread
from ml_playground.training.checkpointing.background import Background

FURTHEST = 19
"""Who steps back so far can step back no further; anybody may."""


def step_back() -> None:
    """The calling thread steps back, and with it those that it starts."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), FURTHEST)


def niceness_of_a_call() -> int | None:
    """How far a call beside the calling thread steps back."""
    beside = Background[int]("beside")
    beside.start(lambda: os.getpriority(os.PRIO_PROCESS, 0))
    return beside.take()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_call_beside_a_training_that_steps_back_itself_steps_back_no_less() -> None:
    """`nice -n 19 mlp train`: without the rights of root a thread that asked for less would be refused, and the save with it."""
    with SideThread(initializer=step_back) as training:
        assert training.submit(niceness_of_a_call).result() == FURTHEST
