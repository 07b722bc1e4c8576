"""Numbers and texts for people."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.humanise import count, duration, json_text, loss_text, plural, printable


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (float("inf"), "?"),
        (-1, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1m 00s"),
        (725, "12m 05s"),
        (3 * 3600 + 7 * 60 + 59, "3h 07m"),
        (2 * 86400 + 4 * 3600, "2d 04h"),
    ],
)
def test_duration_reads_as_people_say_it(seconds: float | None, text: str) -> None:
    """Two units at most."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "?"),
        (float("nan"), "?"),
        (0, "0"),
        (0.1234, "0.123"),
        (950, "950"),
        (999.4, "999"),
        (999.6, "1.00 k"),
        (12_345, "12.3 k"),
        (123_456, "123 k"),
        (999_600, "1.00 M"),
        (10_646_784, "10.6 M"),
        (1.24e9, "1.24 G"),
        (-5e12, "-5.00 T"),
    ],
)
def test_count_has_three_figures_and_a_prefix(number: float | None, text: str) -> None:
    """Short enough for a line, exact enough to compare."""
    assert count(number) == text


@given(text=st.text(), encoding=st.sampled_from(["utf-8", "ascii", "latin-1"]))
def test_printable_any_text_holds_no_control_and_fits_its_encoding(text: str, encoding: str) -> None:
    """Nothing that a model writes can steer a terminal, or crash the writing of it."""
    shown = printable(text, encoding)
    shown.encode(encoding)
    assert not [letter for letter in shown if unicodedata.category(letter)[0] == "C" and letter not in "\n\t"]
    assert len(shown) == len(text)


def test_json_text_numbers_that_are_none_become_null_wherever_they_stand() -> None:
    """NaN and infinities are no JSON; strict readers refuse the whole text."""
    value = {"loss": float("nan"), "rows": [1.5, float("inf"), ("x", float("-inf"))], "text": "NaN", "flag": True}
    assert json_text(value) == '{"loss": null, "rows": [1.5, null, ["x", null]], "text": "NaN", "flag": true}'


def test_json_text_something_else_is_refused() -> None:
    """Only JSON values have a text."""
    with pytest.raises(TypeError):
        json_text({"place": object()})


@pytest.mark.parametrize(
    ("loss", "text"), [(2.5, "2.5000"), (99_999.0, "99999.0000"), (7.2131e14, "7.213e+14"), (float("nan"), "nan")]
)
def test_loss_text_huge_loss_stays_short(loss: float, text: str) -> None:
    """A table keeps its width."""
    assert loss_text(loss) == text


@pytest.mark.parametrize(("number", "text"), [(1.0, "1 minute"), (0.5, "0.5 minutes"), (3, "3 minutes")])
def test_plural_one_alone_is_singular(number: float, text: str) -> None:
    """As people say it."""
    assert plural(number, "minute") == text


@pytest.mark.parametrize(("number", "text"), [(1, "1 entry"), (2000, "2,000 entries")])
def test_plural_that_takes_more_than_an_s_is_given(number: int, text: str) -> None:
    """As people write it."""
    assert plural(number, "entry", "entries") == text
