"""Which part of the text is trained on, validated on, tested on. Pure: positions and names in, splits out."""

import hashlib
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from ml_playground.core.error_handling import DataError
from ml_playground.core.humanise import plural
from ml_playground.core.values import Document
from ml_playground.data_pipeline.source_protocol import AGAIN, changed_meanwhile

SPLITS = ("train", "val", "test")
_MORE = {"image": "images", "chat": "chats"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a document, with its place in the whole source."""

    document: int
    """Number of its document, from 0."""
    id: str
    offset: int
    """Characters of the source before it."""
    text: str
    ends: bool
    """Whether its document ends with it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a document that lies in one split."""

    split: str
    document: int
    offset: int
    """Characters of the source before it."""
    text: str
    ends: bool


Assign = Callable[[Piece], Iterator[tuple[str, int, int]]]
"""For a piece: the splits it lies in, each with where its share of the text begins and ends."""


def shares(val_fraction: float, test_fraction: float) -> tuple[Fraction, Fraction, Fraction]:
    """The exact shares of train, val and test, as the settings write them: 0.1 is a tenth, not its nearest float."""
    val, test = Fraction(str(val_fraction)), Fraction(str(test_fraction))
    return 1 - val - test, val, test


def wanted(test_fraction: float) -> tuple[str, ...]:
    """The splits that a data set has."""
    return SPLITS if test_fraction else SPLITS[:2]


def character_ends(characters: int, val_fraction: float, test_fraction: float) -> tuple[int, int, int]:
    """Where train, val and test end when the text is cut by position; each split that is wanted gets a character.

    Raises:
        DataError: The text is too short for that.
    """
    return _ends(characters, "character", val_fraction, test_fraction, lambda limit: int(characters * limit))


def document_ends(lengths: Sequence[int], val_fraction: float, test_fraction: float) -> tuple[int, int, int]:
    """Which document train, val and test end before: each is whole, and goes where it begins.

    Args:
        lengths: Characters of each document, in order.
        val_fraction: Share of the characters.
        test_fraction: Share of the characters.

    Raises:
        DataError: There are fewer documents than splits.
    """
    starts = [0, *accumulate(lengths)][: len(lengths)]
    total = sum(lengths)
    return _ends(
        len(lengths), "document", val_fraction, test_fraction, lambda limit: bisect_left(starts, total * limit)
    )


def image_ends(images: int, val_fraction: float, test_fraction: float) -> tuple[int, int, int]:
    """Which image train, val and test end before.

    Raises:
        DataError: There are fewer images than splits.
    """
    return _ends(images, "image", val_fraction, test_fraction, lambda limit: math.ceil(images * limit))


def chat_ends(chats: int, val_fraction: float, test_fraction: float) -> tuple[int, int, int]:
    """Which chat train, val and test end before.

    Raises:
        DataError: There are fewer chats than splits.
    """
    return _ends(chats, "chat", val_fraction, test_fraction, lambda limit: math.ceil(chats * limit))


def _ends(
    count: int, unit: str, val_fraction: float, test_fraction: float, end_at: Callable[[Fraction], int]
) -> tuple[int, int, int]:
    train, val, _ = shares(val_fraction, test_fraction)
    splits = wanted(test_fraction)
    if count < len(splits):
        raise DataError(
            f"The source has {plural(count, unit)}, too few for {', '.join(splits)} "
            f"(one {unit} each at least); give it more {_MORE.get(unit, 'text')}"
            + (", or set prepare.split_by = 'position'." if unit == "document" else ".")
        )
    tested = len(splits) - 2
    train_end = min(max(end_at(train), 1), count - 1 - tested)
    val_end = min(max(end_at(train + val), train_end + 1), count - 1) if tested else count
    return train_end, val_end, count


def split_of_id(document_id: str, val_fraction: float, test_fraction: float) -> str:
    """The split of a document by the hash of its id: it stays there whatever is added around it, and so does its repetition."""
    _, val, test = shares(val_fraction, test_fraction)
    digest = hashlib.sha256(document_id.partition(AGAIN)[0].encode("utf-8", "surrogatepass")).digest()
    place = Fraction(int.from_bytes(digest[:8], "big"), 1 << 64)
    if place < val:
        return "val"
    return "test" if place < val + test else "train"


def by_position(ends: tuple[int, int, int]) -> Assign:
    """Cut the text at these positions."""

    def assign(piece: Piece) -> Iterator[tuple[str, int, int]]:
        start = 0
        for split, end in zip(SPLITS, ends, strict=True):
            stop = min(max(end - piece.offset, start), len(piece.text))
            if stop > start:
                yield split, start, stop
            start = stop

    return assign


def by_document(ends: tuple[int, int, int]) -> Assign:
    """Each document whole, by its number.

    Raises:
        DataError: While dealing: there are more documents than were counted.
    """

    def assign(piece: Piece) -> Iterator[tuple[str, int, int]]:
        split = next((split for split, end in zip(SPLITS, ends, strict=True) if piece.document < end), None)
        if split is None:
            raise changed_meanwhile(
                f"{piece.id} is document {piece.document + 1}, where {ends[-1]} were counted before"
            )
        yield split, 0, len(piece.text)

    return assign


def by_hash(val_fraction: float, test_fraction: float) -> Assign:
    """Each document whole, by the hash of its id."""

    def assign(piece: Piece) -> Iterator[tuple[str, int, int]]:
        yield split_of_id(piece.id, val_fraction, test_fraction), 0, len(piece.text)

    return assign


def pieces(documents: Iterable[Document]) -> Iterator[Piece]:
    """Number documents and characters; neighbours with one id are one document, empty texts count for nothing."""
    held: Piece | None = None
    for document in documents:
        if not document.text:
            continue
        if held is None:
            number, offset = 0, 0
        else:
            ends = held.id != document.id
            number, offset = held.document + ends, held.offset + len(held.text)
            yield Piece(held.document, held.id, held.offset, held.text, ends)
        held = Piece(number, document.id, offset, document.text, ends=True)
    if held is not None:
        yield held


def parts(numbered: Iterable[Piece], assign: Assign) -> Iterator[Part]:
    """Deal pieces out to the splits, cutting those that lie in several."""
    for piece in numbered:
        for split, start, stop in assign(piece):
            ends = piece.ends and stop == len(piece.text)
            yield Part(split, piece.document, piece.offset + start, piece.text[start:stop], ends)
