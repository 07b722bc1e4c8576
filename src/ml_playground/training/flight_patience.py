"""A word on what a check is trying, once it takes long: who waits for the first step must not take it for a hang."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Timer

from ml_playground.core.side_threads import started

PATIENCE_S = 5.0
"""A check takes 1 to 3 s; compiling, or a large batch, minutes."""


@contextmanager
def said_when_long(say: Callable[[str], None], patience_s: float = PATIENCE_S) -> Generator[Callable[[str], None]]:
    """Hears what is under way, and says it once, if the block lasts longer than that.

    Args:
        say: Gets one line, on a thread of its own.
        patience_s: Seconds before it is said.
    """
    under_way = ["the copy of the learner"]

    def speak() -> None:
        say(
            f"still checking before the first step: {under_way[-1]} is being tried, which takes minutes where the model is "
            "compiled or a batch is large; without it: --set runtime.flight_check=false"
        )

    timer = Timer(patience_s, speak)
    timer.daemon = True
    started(timer)
    try:
        yield under_way.append
    finally:
        timer.cancel()
