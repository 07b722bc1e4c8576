"""A check that takes long says what it tries."""

from threading import Event, Timer, active_count
from threading import enumerate as enumerate_threads

from ml_playground.training.flight_patience import said_when_long


def test_long_check_says_once_what_is_under_way() -> None:
    """The latest thing that it began."""
    said: list[str] = []
    heard = Event()

    def say(line: str) -> None:
        said.append(line)
        heard.set()

    with said_when_long(say, patience_s=0.2) as tell:
        tell("a step")
        tell("an evaluation")
        assert heard.wait(60)
    assert len(said) == 1
    assert said[0].startswith("still checking before the first step: an evaluation is being tried")
    assert said[0].endswith("--set runtime.flight_check=false")


def test_quick_check_says_nothing() -> None:
    """What it would have said is not said later."""
    said: list[str] = []
    before = active_count()
    with said_when_long(said.append, patience_s=3600) as tell:
        tell("a step")
        assert active_count() == before + 1
    for thread in enumerate_threads():
        if isinstance(thread, Timer):
            thread.join(60)
    assert (said, active_count()) == ([], before)
