"""Statistics of drawn texts: what counts as a header, a line, a run of words, and as odd."""

from time import thread_time

import pytest

from ml_playground.analysis.quality import anomalies_of, headers_of, lines_of, loop_at_end, ngrams_of, words_of


def codes(text: str) -> set[str]:
    """What is odd about one text."""
    return {anomaly.code for anomaly in anomalies_of([text])}


def test_headers_of_german_and_english_names_are_counted_by_text() -> None:
    """Names, values and years among the first ten lines; a colon in the eleventh is text."""
    texts = [
        "Sprecher: Anna\nThema: Haushalt\nJahr: 1999\n\nMeine Damen und Herren.",
        "Sprecher: Anna\nJahr: 2003\n\n" + "Zeile.\n" * 8 + "Note: late",
        "No header here.",
    ]
    found = headers_of(texts)
    assert found.texts == 2
    assert found.names == {"Jahr": 2, "Sprecher": 2, "Thema": 1}
    assert found.values["Sprecher"] == {"Anna": 2}
    assert found.years == {"1999": 1, "2003": 1}


def test_lines_of_repeated_lines_are_counted_and_runs_measured() -> None:
    """Blank lines and white space at the ends do not count."""
    found = lines_of(["one\n two \ntwo\ntwo\n\nthree", "one"])
    assert (found.total, found.non_empty, found.distinct, found.longest_run) == (7, 6, 3, 3)
    assert found.repeated == {"two": 3, "one": 2}
    assert found.distinct_share == 0.5
    assert lines_of([]).distinct_share == 1.0


def test_ngrams_of_do_not_cross_texts_and_ignore_capitals() -> None:
    """Words alone, small letters and capitals alike."""
    found = ngrams_of(["The cat, the cat sat", "the CAT"], 2)
    assert (found.total, found.distinct) == (5, 3)
    assert found.repeated == {"the cat": 3}
    assert ngrams_of(["one"], 2).distinct_share == 1.0


def test_words_of_are_letters_with_apostrophes_inside() -> None:
    """Numbers and punctuation are no words."""
    assert words_of("Don't stop: it's 42 naïve l\u2019été_x'") == ["Don't", "stop", "it's", "naïve", "l\u2019été", "x"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (" \n", "empty"),
        ("It ends in the mid", "unfinished"),
        ("A broken \ufffd byte.", "undecodable"),
        ("A bell \x07 rings.", "control"),
        ("Then came 1848 and all was new.", "year"),
        ("x" * 2001 + ".", "long line"),
        ("One (two [three).", "brackets"),
        ("A closed one).", "brackets"),
        ("And so on and on and on and on and on", "loop"),
    ],
)
def test_anomalies_of_each_kind_is_found(text: str, code: str) -> None:
    """Each with the text that shows it."""
    assert code in codes(text)


@pytest.mark.parametrize(
    "text",
    ["A whole sentence.", "Year: 1999\nSay (this) [and {that}].", 'He said: "Yes!"', "Costs 1,999.50 or 12345 units."],
)
def test_anomalies_of_plain_texts_are_none(text: str) -> None:
    """Years in headers, numbers that are none, and matched brackets are as they should be."""
    assert codes(text) == set()


def test_anomalies_of_number_their_texts() -> None:
    """Counted from 0."""
    assert [anomaly.text for anomaly in anomalies_of(["Fine.", "cut o", ""])] == [1, 2]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("well " + "haha" * 5, "ha"),
        ("the end " * 6, " the end"),
        ("......................", None),
        ("ab ab ab", None),
        ("", None),
    ],
)
def test_loop_at_end_is_the_shortest_phrase(text: str, phrase: str | None) -> None:
    """At least four times, with letters in it, and long enough together."""
    assert loop_at_end(text) == phrase


@pytest.mark.parametrize("text", ["x" * 1_000_000, "a: x" + " " * 200_000 + "y"], ids=["a loop", "a header of blanks"])
def test_anomalies_of_a_long_line_take_no_more_than_its_length(text: str) -> None:
    """Both take minutes where each character is compared with all that follow."""
    began_s = thread_time()
    assert {"long line"} <= codes(text)
    assert thread_time() - began_s < 3
