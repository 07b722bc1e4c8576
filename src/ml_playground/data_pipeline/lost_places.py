"""Where a tokenizer does not know the text: the worst places, found while ids are written, named from the source afterwards."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.tokenizer_protocol import Ids
from ml_playground.data_pipeline.ledger import LostRow
from ml_playground.data_pipeline.transforms.split import Piece

MOST_ROWS = 10
"""As many as a person reads; the counts say the rest."""
EXCERPT_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class Place:
    """A document's part in a split, where something of it is lost."""

    split: str
    document: int
    """Its number in the source."""
    offset: int
    """Characters of the source before the first lost one."""
    bytes: int
    """Lost in all."""


class WorstPlaces:
    """The places that lose most, whatever their number; a document's chunks come one after the other."""

    def __init__(self) -> None:
        self._places: list[Place] = []

    def add(self, place: Place) -> None:
        """Take in what one chunk lost."""
        last = self._places[-1] if self._places else None
        if last is not None and (last.split, last.document) == (place.split, place.document):
            self._places[-1] = replace(last, bytes=last.bytes + place.bytes)
        else:
            self._places = [*self.worst(), place]

    def worst(self) -> list[Place]:
        """Those that lose most, most first; of equal ones the first."""
        return sorted(self._places, key=lambda place: -place.bytes)[:MOST_ROWS]


def unknown_text(text: str, ids: Ids, token_bytes: NDArray[np.int64], unknown: int) -> tuple[int, int]:
    """Of a text with unknown ids among its own: characters before the first one, and bytes that no id stands for.

    Args:
        text: What was encoded.
        ids: Its ids, (tokens,).
        token_bytes: UTF-8 bytes of each id, (V,); 0 for the unknown one.
        unknown: The unknown id.
    """
    content = text.encode()
    known = token_bytes[ids]
    first = int(np.argmax(ids == unknown))
    before = content[: int(known[:first].sum())].decode(errors="ignore")
    # What a tokenizer makes of a text that it normalises may be longer than the text; an unknown id is a byte at least.
    return len(before), max(int(np.count_nonzero(ids == unknown)), len(content) - int(known.sum()))


def located(places: Sequence[Place], numbered: Iterable[Piece]) -> list[LostRow]:
    """The places with the document's id, the line and an excerpt, which are read from the source again."""
    wanted = {place.document for place in places}
    rows: dict[Place, LostRow] = {}
    document, start, line = -1, 0, 1
    for piece in numbered:
        if piece.document not in wanted:
            continue
        if piece.document != document:
            document, start, line = piece.document, piece.offset, 1
        for place in places:
            at = place.offset - piece.offset
            if place.document == document and 0 <= at < len(piece.text):
                rows[place] = LostRow(
                    name=piece.id,
                    reason="unknown",
                    bytes=place.bytes,
                    split=place.split,
                    character=place.offset - start,
                    line=line + piece.text.count("\n", 0, at),
                    excerpt=piece.text[at : at + EXCERPT_CHARACTERS],
                )
        line += piece.text.count("\n")
        if len(rows) == len(places):
            break
    return [rows[place] for place in places if place in rows]
