"""One look at a source: lengths, copies, and the places that lose most; as the naive way finds them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.values import Document
from ml_playground.data_pipeline.ledger import DUPLICATE
from ml_playground.data_pipeline.lost_places import MOST_ROWS, Place, WorstPlaces, located
from ml_playground.data_pipeline.survey import survey
from ml_playground.data_pipeline.transforms.dedupe import lengths_without, without_copies
from ml_playground.data_pipeline.transforms.split import by_document, by_hash, by_position, parts, pieces

documents = st.lists(st.text(alphabet="aé", max_size=6), max_size=12)


@given(texts=documents, piece=st.integers(1, 4), beginning=st.integers(0, 6))
def test_survey_finds_the_copies_however_texts_are_cut_and_however_little_is_hashed_at_first(
    texts: list[str], piece: int, beginning: int
) -> None:
    """As comparing each text with all before it would; lengths and bytes as well."""
    texts = [text for text in texts if text]
    source = [
        Document(str(number), text[start : start + piece])
        for number, text in enumerate(texts)
        for start in range(0, len(text), piece)
    ]
    found = survey(pieces(source), lambda: pieces(source), beginning)
    assert list(found.lengths) == [len(text) for text in texts]
    assert found.bytes == len("".join(texts).encode())
    assert list(found.copies) == [number for number, text in enumerate(texts) if text in texts[:number]]


@given(
    texts=st.lists(st.text(alphabet="ab", min_size=1, max_size=4), min_size=3, max_size=12),
    data=st.data(),
    way=st.sampled_from(["position", "document", "hash"]),
)
def test_dealing_without_copies_is_dealing_what_is_left(texts: list[str], data: st.DataObject, way: str) -> None:
    """The other documents go where they would go if the copies were not there; each copy goes to one place, whole."""
    numbers = sorted(data.draw(st.sets(st.integers(0, len(texts) - 1), max_size=len(texts) - 3)))
    every = [Document(str(number), text) for number, text in enumerate(texts)]
    left = [document for number, document in enumerate(every) if number not in numbers]
    lengths = lengths_without(survey(pieces(every), lambda: ()).lengths, numbers)
    assert list(lengths) == [len(document.text) for document in left]
    half = {"position": sum(lengths), "document": len(lengths)}.get(way, 0)
    ends = half // 2, half, half
    assign = {"position": by_position(ends), "document": by_document(ends), "hash": by_hash(0.4, 0.0)}[way]
    dealt = list(parts(pieces(every), without_copies(assign, [len(text) for text in texts], numbers)))
    assert [(part.split, part.text) for part in dealt if part.split != DUPLICATE] == [
        (part.split, part.text) for part in parts(pieces(left), assign)
    ]
    assert [part.document for part in dealt if part.split == DUPLICATE] == numbers


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=60))
def test_worst_places_are_the_largest_sums_of_documents(losses: list[tuple[int, int]]) -> None:
    """However many there are; of equal ones those that come first."""
    worst = WorstPlaces()
    sums: dict[int, int] = {}
    for document, size in sorted(losses, key=lambda loss: loss[0]):
        worst.add(Place("val", document, document * 10, size))
        sums[document] = sums.get(document, 0) + size
    expected = sorted(sums.items(), key=lambda entry: (-entry[1], entry[0]))[:MOST_ROWS]
    assert [(place.document, place.bytes) for place in worst.worst()] == expected


@given(texts=st.lists(st.text(alphabet="a\n", min_size=1, max_size=8), min_size=1, max_size=5), piece=st.integers(1, 3))
def test_located_places_count_characters_and_lines_of_their_document(texts: list[str], piece: int) -> None:
    """Every character of every document, however the source is cut."""
    source = [
        Document(str(number), text[start : start + piece])
        for number, text in enumerate(texts)
        for start in range(0, len(text), piece)
    ]
    starts = np.cumsum([0, *map(len, texts)]).tolist()
    places = [
        Place("train", number, starts[number] + at, 1) for number, text in enumerate(texts) for at in range(len(text))
    ]
    rows = located(places, pieces(source))
    assert [(row.name, row.character, row.line) for row in rows] == [
        (str(number), at, text.count("\n", 0, at) + 1) for number, text in enumerate(texts) for at in range(len(text))
    ]
