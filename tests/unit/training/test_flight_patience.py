"""A check that takes long says what it tries."""

from threading import Event, Timer
from threading import enumerate as enumerate_threads

from ml_playground.training.flight_patience import said_when_long


def said_after(patience_s: float) -> list[str]:
    """What a check says that begins with two things at once, and then takes long."""
    said: list[str] = []
    heard = Event()

    def say(line: str) -> None:
        said.append(line)
        heard.set()

    with said_when_long(say, patience_s) as tell:
        tell("a step")
        tell("an evaluation")
        assert heard.wait(60)
    return said


def timers() -> set[Timer]:
    """Threads that wait until something is due."""
    return {thread for thread in enumerate_threads() if isinstance(thread, Timer)}


def test_long_check_says_once_what_is_under_way() -> None:
    """The latest thing that it began."""
    # On a machine that was elsewhere for a moment the step alone had begun.
    for patience_s in (0.2, 2.0, 20.0):
        said = said_after(patience_s)
        if "an evaluation" in said[0]:
            break
    assert len(said) == 1
    assert said[0].startswith("still checking before the first step: an evaluation is being tried")
    assert said[0].endswith("--set runtime.flight_check=false")


def test_quick_check_says_nothing() -> None:
    """What it would have said is not said later."""
    said: list[str] = []
    before = timers()
    with said_when_long(said.append, patience_s=3600) as tell:
        tell("a step")
        (timer,) = timers() - before
    timer.join(60)
    assert (said, timer.is_alive()) == ([], False)
