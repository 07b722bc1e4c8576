"""One pass over a source: how long each document is, and which are copies of earlier ones. Pure; 24 bytes for each document."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_playground.data_pipeline.ledger import Copies
from ml_playground.data_pipeline.transforms.split import Piece

DIGEST_BYTES = 16
# Hashing all of a long text would cost a tenth of preparing its characters; two long ones that begin alike are read again.
BEGINNING = 1 << 16


@dataclass(frozen=True, slots=True)
class Survey:
    """What was counted."""

    lengths: "array[int]"
    """Characters of each document."""
    bytes: int
    """Of all documents in UTF-8."""
    copies: "array[int]"
    """Numbers of the documents whose text is that of an earlier one, ascending."""

    @property
    def characters(self) -> int:
        """Of all documents."""
        return sum(self.lengths)

    def counted_copies(self) -> Copies:
        """How many, how long."""
        return Copies(documents=len(self.copies), characters=sum(self.lengths[number] for number in self.copies))


def utf8_bytes(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def survey(numbered: Iterable[Piece], again: Callable[[], Iterable[Piece]], beginning: int = BEGINNING) -> Survey:
    """Read a source once; `again` gives the same pieces anew, where documents beyond `beginning` characters look alike."""
    lengths: array[int] = array("Q")
    prints = bytearray()
    size_bytes = 0
    digest = _digest()
    for piece in numbered:
        if piece.document == len(lengths):
            lengths.append(0)
            digest = _digest()
        held = lengths[piece.document]
        lengths[piece.document] = held + len(piece.text)
        if held + len(piece.text) <= beginning:
            content = piece.text.encode()
            digest.update(content)
            size_bytes += len(content)
        else:
            digest.update(piece.text[: max(0, beginning - held)].encode())
            size_bytes += utf8_bytes(piece.text)
        if piece.ends:
            prints += digest.digest()
    originals = originals_of(lengths, prints)
    if alike := _long_and_alike(lengths, originals, beginning):
        for number, whole in _whole_digests(again(), alike):
            prints[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES] = whole
        originals = originals_of(lengths, prints)
    copies = np.flatnonzero(originals != np.arange(len(originals)))
    return Survey(lengths, size_bytes, array("Q", copies.astype(np.uint64).tobytes()))


def _digest() -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def originals_of(lengths: "array[int]", prints: bytearray) -> NDArray[np.int64]:
    """For each document the number of the first one with its length and digest: (documents,).

    Args:
        lengths: Of each document.
        prints: `DIGEST_BYTES` of each, one after the other.
    """
    keys = np.frombuffer(prints, dtype=np.uint64).reshape(-1, 2)
    columns = keys[:, 0], keys[:, 1], np.array(lengths, dtype=np.uint64)
    # Stable: among equal ones the first comes first.
    order = np.lexsort(columns)
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = np.any([column[order[1:]] != column[order[:-1]] for column in columns], axis=0)
    originals = np.empty(len(order), dtype=np.int64)
    originals[order] = order[new][np.cumsum(new) - 1]
    return originals


def _long_and_alike(lengths: "array[int]", originals: NDArray[np.int64], beginning: int) -> set[int]:
    """Documents of which only the beginning was compared, where another one has the same."""
    copies = np.flatnonzero(originals != np.arange(len(originals))).tolist()
    return {number for copy in copies if lengths[copy] > beginning for number in (int(copy), int(originals[int(copy)]))}


def _whole_digests(numbered: Iterable[Piece], wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Number and digest of each document that is wanted."""
    digest = _digest()
    for piece in numbered:
        if piece.document in wanted:
            digest.update(piece.text.encode())
            if piece.ends:
                yield piece.document, digest.digest()
                digest = _digest()
