"""Laws of splitting and chunking: nothing is lost, nothing is doubled, and cutting a source otherwise changes nothing."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.values import Document
from ml_playground.data_pipeline.encoding import Chunk, chunks
from ml_playground.data_pipeline.transforms.split import (
    SPLITS,
    Assign,
    by_document,
    by_hash,
    by_position,
    character_ends,
    document_ends,
    parts,
    pieces,
    split_of_id,
)
from ml_playground.tokenization.byte_bpe import ByteBpeTokenizer

fractions = st.tuples(st.floats(0.01, 0.45), st.one_of(st.just(0.0), st.floats(0.01, 0.45)))
texts = st.lists(st.text(alphabet="ab \n", min_size=1, max_size=30), min_size=3, max_size=8)


def whole(bodies: Sequence[str]) -> list[Document]:
    """One document a text."""
    return [Document(f"file {number}", body) for number, body in enumerate(bodies)]


def cut_up(documents: Sequence[Document], size: int) -> list[Document]:
    """The same documents in pieces of a few characters."""
    return [
        Document(document.id, document.text[start : start + size])
        for document in documents
        for start in range(0, len(document.text), size)
    ]


def assignments(bodies: Sequence[str], val: float, test: float) -> list[Assign]:
    """Each way to split."""
    lengths = [len(body) for body in bodies]
    return [
        by_position(character_ends(sum(lengths), val, test)),
        by_document(document_ends(lengths, val, test)),
        by_hash(val, test),
    ]


def dealt(documents: Sequence[Document], assign: Assign, size: int) -> list[Chunk]:
    """What would be encoded."""
    return list(chunks(parts(pieces(documents), assign), ByteBpeTokenizer.safe_cut, size))


@given(texts, fractions)
def test_split_any_way_loses_and_doubles_no_text(bodies: list[str], shares: tuple[float, float]) -> None:
    """The characters of the splits are the characters of the source."""
    for assign in assignments(bodies, *shares):
        found = Counter("".join(part.text for part in parts(pieces(whole(bodies)), assign)))
        assert found == Counter("".join(bodies))


@given(texts, fractions)
def test_split_by_position_keeps_the_order_of_the_text(bodies: list[str], shares: tuple[float, float]) -> None:
    """train, then val, then test, is the source."""
    assign = by_position(character_ends(len("".join(bodies)), *shares))
    found = list(parts(pieces(whole(bodies)), assign))
    assert "".join(part.text for part in found) == "".join(bodies)
    assert [part.split for part in found] == sorted((part.split for part in found), key=SPLITS.index)


@given(texts, fractions)
def test_split_by_document_or_hash_never_cuts_a_document(bodies: list[str], shares: tuple[float, float]) -> None:
    """Each document ends where it began."""
    for assign in assignments(bodies, *shares)[1:]:
        found = list(parts(pieces(whole(bodies)), assign))
        assert [part.text for part in found] == bodies
        assert all(part.ends for part in found)


@given(texts, fractions, st.integers(1, 7), st.integers(1, 12))
def test_chunks_do_not_depend_on_how_the_source_cuts(
    bodies: list[str], shares: tuple[float, float], piece: int, size: int
) -> None:
    """A big file read in pieces gives the data set of the same file read at once."""
    for assign in assignments(bodies, *shares):
        assert dealt(cut_up(whole(bodies), piece), assign, size) == dealt(whole(bodies), assign, size)


@given(texts, fractions, st.integers(1, 12))
def test_chunks_mark_each_end_once_and_each_start_once_a_split(
    bodies: list[str], shares: tuple[float, float], size: int
) -> None:
    """Documents can be told apart in the tokens."""
    for assign in assignments(bodies, *shares):
        made = dealt(whole(bodies), assign, size)
        assert sum(chunk.ends for chunk in made) == len(bodies)
        assert made[0].starts
        assert all(after.starts == (before.ends or before.split != after.split) for before, after in pairwise(made))


@given(st.integers(3, 10**7), fractions)
def test_character_ends_give_each_split_its_share(characters: int, shares: tuple[float, float]) -> None:
    """Within a character of the fraction, and never empty."""
    val, test = shares
    train_end, val_end, end = character_ends(characters, val, test)
    assert 0 < train_end < val_end <= end == characters
    assert abs((val_end - train_end) - characters * val) <= 2
    assert abs((end - val_end) - characters * test) <= 2
    assert (end > val_end) == (test > 0)


@given(st.lists(st.integers(1, 1000), min_size=3, max_size=40), fractions)
def test_document_ends_leave_no_split_empty(lengths: list[int], shares: tuple[float, float]) -> None:
    """However uneven the documents, each split that is wanted has one."""
    val, test = shares
    train_end, val_end, end = document_ends(lengths, val, test)
    assert 0 < train_end < val_end <= end == len(lengths)
    assert (end > val_end) == (test > 0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20, unique=True), st.data(), fractions)
def test_by_hash_documents_added_around_leave_a_document_in_its_split(
    numbers: list[int], data: st.DataObject, shares: tuple[float, float]
) -> None:
    """What was validated on yesterday is not trained on today, wherever the new documents stand."""

    def splits(chosen: list[int]) -> dict[int, str]:
        documents = [Document(f"{number}.txt", f"{number}") for number in chosen]
        return {int(part.text): part.split for part in parts(pieces(documents), by_hash(*shares))}

    before = splits(numbers)
    more = data.draw(st.permutations([*numbers, *range(100, 110)]))
    after = splits(more)
    assert set(after) == set(more)
    assert {number: after[number] for number in numbers} == before


@pytest.mark.parametrize("val", [0.01, 0.1, 0.4])
def test_split_of_id_gives_about_its_share(val: float) -> None:
    """2000 ids, within four standard deviations."""
    found = sum(split_of_id(f"id {number}", val, 0.0) == "val" for number in range(2000))
    assert abs(found - 2000 * val) < 4 * (2000 * val * (1 - val)) ** 0.5
