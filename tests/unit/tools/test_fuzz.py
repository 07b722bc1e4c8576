"""The tool that fuzzes: it finds what breaks the law, once, and counts what it tried."""

from pathlib import Path
from random import Random

import pytest

from ml_playground.core.error_handling import DataError
from tests.fuzzing.mutation import ODD, mutated, with_odd_value
from tests.fuzzing.targets import Target, breach
from tools import fuzz


def read_number(content: bytes) -> int:
    """A reader with a hole: it forgets that a text may be no text.

    Raises:
        DataError: It is no number.
    """
    text = content.decode()
    if not text.isascii() or not text.isdecimal() or len(text) > 4000:
        raise DataError("no number")
    return int(text)


NUMBER = Target("number", (b"17", b"4"), read_number, lambda value: str(value).encode())


def test_fuzz_reader_with_a_hole_is_found_once_and_every_input_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The same place in the source is told once, however many inputs lead there."""
    tried, found = fuzz._fuzz([NUMBER], seconds=0.2, seed=3)
    told = capsys.readouterr().out
    kept = [Path(fuzz.ROOT / line.split()[1]) for line in told.splitlines() if line.startswith("number: ")]
    try:
        assert found == len(kept) == 1
        assert "UnicodeDecodeError" in told
        assert tried["number"] >= fuzz.ROUND
        assert "UnicodeDecodeError" in breach(NUMBER, kept[0].read_bytes())
    finally:
        for path in kept:
            path.unlink()


@pytest.mark.parametrize(
    ("target", "how"),
    [
        (Target("mute", (), lambda _: refuse("")), "DataError without a word"),
        (Target("lossy", (), len, lambda _: b"abc"), "was 1, then 3"),
        (Target("once", (), read_number, lambda _: b"x"), "was read, but not a second time"),
    ],
    ids=lambda value: value.name if isinstance(value, Target) else "",
)
def test_breach_names_every_way_to_break_the_law(target: Target, how: str) -> None:
    """Refusals without words, and values that do not come back."""
    assert how in breach(target, b"1")


def test_breach_too_much_time_or_memory_is_one() -> None:
    """A reader that answers in the end may still have taken the machine."""
    assert breach(NUMBER, b"17", most_seconds=0.0).endswith(" s")
    # Memory of other parts of the process may be given back meanwhile, and then it shrinks.
    assert breach(NUMBER, b"17", most_bytes=-(1 << 40)).endswith(" MiB")


def refuse(text: str) -> None:
    """As a reader does.

    Raises:
        DataError: Always.
    """
    raise DataError(text)


def test_breach_of_what_keeps_the_law_is_empty() -> None:
    """A value that comes back, and a refusal in words."""
    assert breach(NUMBER, b"17") == breach(NUMBER, b"seventeen") == ""


def test_mutated_equal_seeds_give_equal_inputs_and_others_differ() -> None:
    """What was found can be found again; and most inputs are not the file itself."""
    seeds = (b'{"step": 3, "values": {"loss": 1.5}, "list": [1, 2]}\n{"step": 4}\n', b"plain")
    first, second = ([mutated(seeds, Random(number)) for number in range(200)] for _ in range(2))
    assert first == second
    assert len(set(first) - set(seeds)) > 100


def test_with_odd_value_leaves_the_value_as_it_was() -> None:
    """Seeds are used again and again."""
    value = {"a": [1, {"b": 2}], "c": "d"}
    changed = [repr(with_odd_value(value, Random(number))) for number in range(100)]
    assert value == {"a": [1, {"b": 2}], "c": "d"}
    assert len(set(changed)) > 20
    assert len(ODD) > 20
