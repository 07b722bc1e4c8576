"""What a SentencePiece model says about itself: its pieces, and whether a text may be cut without changing its ids.

The file is a protocol buffer; the few fields that are asked for are read here, with checks, for it may come from anyone.

Source: https://github.com/google/sentencepiece, src/sentencepiece_model.proto
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BLANK_LETTER = "\N{LOWER ONE EIGHTH BLOCK}"
"""Stands for a blank in pieces."""

# 5 is a piece that is not used.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5
_MOST_SHIFT = 63
_MOST_PIECES = 2_000_000

# Numbers of the fields.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _TYPE = 1, 3
_DUMMY_PREFIX, _REMOVE_EXTRA, _ESCAPE = 3, 4, 5
_BLANK_AS_SUFFIX = 24

_BLANK_INSIDE = re.compile(rf"[^{BLANK_LETTER}]{BLANK_LETTER}")
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True, slots=True)
class ModelRules:
    """What decides about ids beside the scores."""

    pieces: Sequence[str]
    types: Sequence[int]
    adds_blank: bool
    """Whether a blank is put before each text."""
    removes_blanks: bool
    """Whether blanks at the beginning, at the end and beside others are removed."""
    escapes_blanks: bool
    blank_as_suffix: bool

    @property
    def cuts_at_blanks(self) -> bool:
        """Whether the ids of a text are those of its stretches, cut before blanks behind visible characters.

        A stretch begins with a blank: what is put before it and what is removed there must leave one; and no piece may
        reach over the cut.
        """
        if self.blank_as_suffix or not self.escapes_blanks or self.adds_blank != self.removes_blanks:
            return False
        return not any(
            _BLANK_INSIDE.search(piece)
            for piece, type_ in zip(self.pieces, self.types, strict=True)
            if type_ in (NORMAL, USER_DEFINED)
        )

    def piece_bytes(self) -> list[bytes]:
        """What each id stands for, (V,); nothing for the unknown one and for marks."""
        return [_bytes_of(piece, type_) for piece, type_ in zip(self.pieces, self.types, strict=True)]

    def byte_ids(self) -> dict[int, int]:
        """The id of each byte, where the model falls back to bytes."""
        return {
            _bytes_of(piece, type_)[0]: index
            for index, (piece, type_) in enumerate(zip(self.pieces, self.types, strict=True))
            if type_ == BYTE
        }


def read_rules(model: bytes) -> ModelRules:
    """The rules in a model file.

    Raises:
        ValueError: It is none: cut off, not a protocol buffer, or its pieces are not what a vocabulary has.
    """
    pieces: list[str] = []
    types: list[int] = []
    trainer: dict[int, int] = {}
    normalizer: dict[int, int] = {}
    for number, value in _fields(model):
        if number == _PIECES and isinstance(value, bytes):
            fields = dict(_fields(value))
            text, type_ = fields.get(_TEXT, b""), fields.get(_TYPE, NORMAL)
            if not isinstance(text, bytes) or not isinstance(type_, int):
                raise ValueError("a piece of it has no text")
            pieces.append(text.decode())
            types.append(type_)
        elif number in (_TRAINER, _NORMALIZER) and isinstance(value, bytes):
            numbers = {key: one for key, one in _fields(value) if isinstance(one, int)}
            (trainer if number == _TRAINER else normalizer).update(numbers)
    _check(pieces, types)
    return ModelRules(
        pieces=pieces,
        types=types,
        adds_blank=bool(normalizer.get(_DUMMY_PREFIX, 1)),
        removes_blanks=bool(normalizer.get(_REMOVE_EXTRA, 1)),
        escapes_blanks=bool(normalizer.get(_ESCAPE, 1)),
        blank_as_suffix=bool(trainer.get(_BLANK_AS_SUFFIX, 0)),
    )


def _check(pieces: Sequence[str], types: Sequence[int]) -> None:
    if not 0 < len(pieces) <= _MOST_PIECES:
        raise ValueError(f"it has {len(pieces):,} pieces, not 1 to {_MOST_PIECES:,}")
    if "" in pieces or len(set(pieces)) < len(pieces):
        raise ValueError("it has an empty piece, or one twice")
    if any(not NORMAL <= type_ <= BYTE for type_ in types) or types.count(UNKNOWN) != 1:
        raise ValueError("it has a piece of no known type, or not exactly one that is unknown")
    bytes_ = [piece for piece, type_ in zip(pieces, types, strict=True) if type_ == BYTE]
    if bytes_ and (len(bytes_) != 256 or not all(map(_BYTE_PIECE.fullmatch, bytes_))):  # noqa: PLR2004 - values of a byte
        raise ValueError("it has pieces for some bytes only")


def _bytes_of(piece: str, type_: int) -> bytes:
    if type_ in (UNKNOWN, CONTROL):
        return b""
    if type_ == BYTE:
        return bytes.fromhex(piece[3:5])
    return piece.replace(BLANK_LETTER, " ").encode()


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message; floats as their bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == _SIZED:
            size, place = _varint(message, place)
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"it has a field of the unknown form {wire}")
        if size > len(message) - place:
            raise ValueError("it is cut off")
        yield number, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A number of variable length, and the place behind it."""
    value = 0
    for shift in range(0, _MOST_SHIFT + 1, 7):
        if place >= len(message):
            raise ValueError("it is cut off")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number
            return value, place
    raise ValueError("it has a number without end")
