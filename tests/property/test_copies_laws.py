"""Laws of copied stretches: what a plain search of every window finds, however the long text is cut into pieces."""

import math
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.analysis import copies
from ml_playground.analysis.copies import Copy, Search, copied_share

LENGTH = 10
ALPHABET = "abcdefghijklmnoü\n"


@st.composite
def texts_and_source(draw: st.DrawFn) -> tuple[list[str], str]:
    """A source, and texts that are pasted together from stretches of it and others."""
    source = draw(st.text(ALPHABET, min_size=0, max_size=120))
    texts: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        text = ""
        for _ in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, len(source)))
            text += source[start : start + draw(st.integers(0, 40))] + draw(st.text(ALPHABET, max_size=6))
        texts.append(text)
    return texts, source


def expected_windows(texts: Sequence[str], source: str) -> set[tuple[int, int]]:
    """Text and place of each window that stands in the source."""
    return {
        (number, at)
        for number, text in enumerate(texts)
        for at in range(len(text) - LENGTH + 1)
        if len(set(window := text[at : at + LENGTH])) >= copies.LEAST_DISTINCT and window in source
    }


def searched(texts: Sequence[str], pieces: Sequence[str]) -> list[Copy]:
    """All copies."""
    search = Search(texts, LENGTH)
    for piece in pieces:
        search.read(piece)
    return search.copies()


@settings(max_examples=150)
@given(texts_and_source(), st.lists(st.integers(0, 120), max_size=6))
def test_copies_any_texts_are_what_a_plain_search_finds(found: tuple[list[str], str], cuts: list[int]) -> None:
    """Each stretch stands where it says in both texts, and together they hold every window that a plain search finds."""
    texts, source = found
    edges = [0, *sorted(cuts), len(source)]
    stretches = searched(texts, [source[first:last] for first, last in pairwise(edges)])
    windows = {(copy.text, at) for copy in stretches for at in range(copy.start, copy.end - LENGTH + 1)}
    for copy in stretches:
        assert copy.length >= LENGTH
        assert texts[copy.text][copy.start : copy.end] == source[copy.source : copy.source + copy.length]
    assert expected_windows(texts, source) <= windows


@settings(max_examples=50)
@given(texts_and_source())
def test_copied_share_counts_each_character_once(found: tuple[list[str], str]) -> None:
    """Stretches that overlap cover what they cover together."""
    texts, source = found
    stretches = searched(texts, [source])
    covered = {(copy.text, at) for copy in stretches for at in range(copy.start, copy.end)}
    total = sum(map(len, texts))
    share = copied_share(texts, stretches)
    assert share == len(covered) / total if total else math.isnan(share)


def test_copies_whole_text_is_one_stretch() -> None:
    """A text that is the source is copied from its first character to its last."""
    source = "The quick brown fox jumps over the lazy dog. " * 3 + "Pack my box with five dozen liquor jugs."
    copy = searched([source], [source])[0]
    assert (copy.start, copy.length) == (0, len(source))


def test_copies_row_of_one_character_is_none() -> None:
    """A ruler of dashes stands in every log, and tells nothing."""
    assert searched(["-" * 200], ["-" * 5000]) == []


def test_copies_more_open_stretches_than_are_remembered_loses_none_that_is_whole() -> None:
    """Where the drawn text repeats itself a thousand times, the longest stretch is still found."""
    unit = "abcdefghijklmnop "
    stretch = searched([unit * 30], ["x", unit * 40, "y", unit * 3])[0]
    assert stretch.length == len(unit) * 30
