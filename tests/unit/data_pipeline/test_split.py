"""Splits: what they give for known texts, and what they say when there is too little."""

import pytest

from ml_playground.core.error_handling import DataError
from ml_playground.core.values import Document
from ml_playground.data_pipeline.transforms.split import (
    by_document,
    character_ends,
    document_ends,
    parts,
    pieces,
    split_of_id,
)


def test_character_ends_of_tiny_shakespeare_are_those_of_nanogpt() -> None:
    """`int(n * 0.9)`, so that losses can be compared."""
    assert character_ends(1_115_394, 0.1, 0.0) == (1_003_854, 1_115_394, 1_115_394)


def test_character_ends_take_fractions_as_they_are_written() -> None:
    """A tenth is a tenth: in floats, 1 - 0.9 would lose a character of a thousand."""
    assert character_ends(1000, 0.9, 0.0) == (100, 1000, 1000)


@pytest.mark.parametrize(
    ("characters", "test_fraction", "message"),
    [
        (0, 0.0, r"has 0 characters, too few for train, val \(one character each at least\); give it more text\."),
        (1, 0.0, r"has 1 character, too few for train, val"),
        (2, 0.1, r"has 2 characters, too few for train, val, test"),
    ],
)
def test_character_ends_too_short_text_gives_the_numbers(characters: int, test_fraction: float, message: str) -> None:
    """No split is empty in silence."""
    with pytest.raises(DataError, match=message):
        character_ends(characters, 0.1, test_fraction)


def test_document_ends_one_document_suggests_splitting_by_position() -> None:
    """A single file cannot be split whole."""
    with pytest.raises(
        DataError, match=r"has 1 document, too few for train, val .* set prepare\.split_by = 'position'"
    ):
        document_ends([1000], 0.1, 0.0)


def test_document_ends_put_a_document_where_it_begins() -> None:
    """The one that the border runs through stays in training."""
    assert document_ends([50, 45, 5], 0.1, 0.0) == (2, 3, 3)


def test_split_of_id_is_the_same_on_every_machine() -> None:
    """Recorded: a change would move documents between splits of data sets that exist."""
    found = [split_of_id(f"{number}.txt", 0.3, 0.2) for number in range(10)]
    assert found == ["train", "val", "val", "train", "train", "train", "train", "test", "train", "test"]


def test_by_document_more_documents_than_counted_says_that_the_source_changed() -> None:
    """A file that appears between two passes over a folder."""
    numbered = pieces([Document(name, "x") for name in ("a", "b", "c")])
    with pytest.raises(
        DataError,
        match=r"changed while it was being prepared: c is document 3, where 2 were counted before\. Nothing was",
    ):
        list(parts(numbered, by_document((1, 2, 2))))


def test_pieces_of_nothing_are_none() -> None:
    """An empty source has no document."""
    assert list(pieces([])) == []
    assert list(pieces([Document("a", "")])) == []


def test_pieces_number_documents_and_leave_out_empty_texts() -> None:
    """Neighbours with one id are one document, also around an empty piece."""
    found = list(
        pieces([Document("a", "x"), Document("a", ""), Document("a", "yz"), Document("b", ""), Document("c", "w")])
    )
    assert [(piece.document, piece.offset, piece.text, piece.ends) for piece in found] == [
        (0, 0, "x", False),
        (0, 1, "yz", True),
        (1, 3, "w", True),
    ]
