"""Leaving out copies: the rest is dealt out as if they were not there. Pure."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from ml_playground.data_pipeline.ledger import DUPLICATE
from ml_playground.data_pipeline.transforms.split import Assign, Piece


def lengths_without(lengths: "array[int]", copies: Sequence[int]) -> "array[int]":
    """The lengths of the documents that are no copies, in order."""
    left_out = set(copies)
    return array("Q", (length for number, length in enumerate(lengths) if number not in left_out))


def without_copies(assign: Assign, lengths: Sequence[int], copies: Sequence[int]) -> Assign:
    """As `assign` over the documents that are no copies; a copy goes to `DUPLICATE`.

    Args:
        assign: Deals out documents that are numbered without the copies.
        lengths: Characters of each document, copies among them.
        copies: Numbers of the copies, ascending.
    """
    characters = [0, *accumulate(lengths[number] for number in copies)]

    def dealt(piece: Piece) -> Iterator[tuple[str, int, int]]:
        before = bisect_left(copies, piece.document)
        if before < len(copies) and copies[before] == piece.document:
            yield DUPLICATE, 0, len(piece.text)
        else:
            yield from assign(
                Piece(piece.document - before, piece.id, piece.offset - characters[before], piece.text, piece.ends)
            )

    return dealt
