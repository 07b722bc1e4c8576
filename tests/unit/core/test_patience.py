"""Waiting for somebody else."""

from threading import Event

import pytest

from ml_playground.core.patience import PARTS, came


def test_what_comes_is_not_waited_for_longer() -> None:
    """The parts that remain are not waited for."""
    asked: list[float] = []

    def third_time(seconds: float) -> bool:
        asked.append(seconds)
        return len(asked) == 3

    assert came(third_time, 5.0)
    assert asked == [5.0 / PARTS] * 3


def test_what_does_not_come_is_waited_for_in_parts() -> None:
    """Whatever the clock says after one of them: a machine that stood still meanwhile has had its user wait for nobody."""
    asked: list[float] = []
    assert not came(asked.append, 5.0)
    assert sum(asked) == pytest.approx(5.0)
    assert len(asked) == PARTS


def test_who_wants_to_be_asked_more_often_says_so() -> None:
    """The time in all is the same."""
    asked: list[float] = []
    assert not came(asked.append, 5.0, 50)
    assert asked == [0.1] * 50


def test_no_seconds_only_look() -> None:
    """Whether it has come already."""
    event = Event()
    assert not came(event.wait, 0)
    event.set()
    assert came(event.wait, 0)
