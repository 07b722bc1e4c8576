"""Laws of mojibake: what was misread is found and mended, and correct text of any language is left alone."""
# ruff: noqa: RUF001 - letters that look like others are what this is about

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.data_pipeline.checks.characters import character_faults
from ml_playground.data_pipeline.checks.mojibake import mended, runs
from tests.fakes.texts_of_languages import CLOSINGS, WORDS, clean_texts, misread

# In capitals, or as single signs, the bytes of one character may also be what somebody wrote.
CLEAR = {
    language: [word for word in words if not word.isascii() and not word.isupper() and len(word) > 1]
    for language, words in WORDS.items()
}


@given(clean_texts())
def test_correct_text_of_any_language_has_no_faults(text: str) -> None:
    """A false alarm teaches its user to ignore the true ones."""
    assert character_faults(text.encode()) == []
    assert mended(text) == text


@given(st.sampled_from(sorted(WORDS["german"] + WORDS["french"])), st.sampled_from(CLOSINGS))
def test_correct_word_before_a_closing_mark_is_left_alone(word: str, closing: str) -> None:
    """`Spaß“` and `été »` are the bytes of one character, and correct."""
    assert list(runs(f"{word}{closing} und")) == []


@given(st.sampled_from(sorted(CLEAR)), st.data(), st.sampled_from(["cp1252", "latin-1"]))
def test_misread_text_is_found_and_mended(language: str, data: st.DataObject, encoding: str) -> None:
    """The round trip gives back what was there, in every script."""
    text = " ".join(data.draw(st.lists(st.sampled_from(CLEAR[language]), min_size=1, max_size=8)))
    damaged = misread(text, encoding)
    assert {fault.code for fault in character_faults(damaged.encode())} == {"mojibake"}
    assert mended(damaged) == text


@given(st.sampled_from(CLEAR["german"]), st.sampled_from(["cp1252", "latin-1"]))
def test_text_misread_twice_is_mended_at_once(word: str, encoding: str) -> None:
    """Files that went through two such programs are common."""
    assert mended(misread(misread(f"so {word} da", encoding), encoding)) == f"so {word} da"


@given(clean_texts(), st.sampled_from(CLEAR["german"]), clean_texts())
def test_misread_word_among_correct_ones_is_found(before: str, word: str, after: str) -> None:
    """One damaged line in a clean file; the clean lines stay as they are."""
    damaged = f"{before}\n{misread(f'so {word} da', 'cp1252')}\n{after}"
    assert mended(damaged) == f"{before}\nso {word} da\n{after}"
    (fault, *_) = character_faults(damaged.encode())
    assert damaged.encode()[: fault.start].count(b"\n") == before.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "original"),
    [
        ("Ã¤", "ä"),
        ("donâ€™t", "don’t"),
        ("20Â°C", "20°C"),
        ("Â£5", "£5"),
        ("straÃŸe", "straße"),
        ("Ã–l", "Öl"),
        ("KÃ–LN", "KÖLN"),
        ("mÅ‚ody", "młody"),
        ("ä¸­æ–‡", "中文"),
        ("ðŸ˜€", "😀"),
        ("ï»¿a", "\ufeffa"),
    ],
)
def test_usual_mojibake_is_mended(text: str, original: str) -> None:
    """What everybody has seen."""
    assert mended(text) == original


@pytest.mark.parametrize("text", ["IRMÃ”", "„Ä“", "ÚŽASNÉ", "CAFÉ…", "2×½", "Ø±0.5", "Fuß–Weg", "É”", "Maß²", "ÉTÉ’s"])
def test_correct_text_that_could_be_bytes_is_left_alone(text: str) -> None:
    """Each of these decodes to one character of UTF-8, and is right as it stands."""
    assert mended(text) == text
