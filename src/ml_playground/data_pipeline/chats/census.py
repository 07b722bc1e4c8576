"""One pass over a source of chats, which counts them and finds copies; and how they are dealt out to the splits afterwards."""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from ml_playground.configuration.models import PrepareSettings
from ml_playground.core.error_handling import DataError
from ml_playground.core.values import ChatExample
from ml_playground.data_pipeline.chats.chat_ledger import BAD_ROW
from ml_playground.data_pipeline.chats.protocol import BadRow, ChatSource
from ml_playground.data_pipeline.chats.row_making import table_of
from ml_playground.data_pipeline.ledger import DUPLICATE
from ml_playground.data_pipeline.progress import Phase, PrepareProgress, Report
from ml_playground.data_pipeline.source_protocol import changed_meanwhile
from ml_playground.data_pipeline.survey import DIGEST_BYTES, originals_of
from ml_playground.data_pipeline.transforms.split import SPLITS, chat_ends, split_of_id

OR_DROP = "correct the row, or leave such rows out with prepare.chat.on_bad_row = 'drop'"
GOOD, COPY, BAD = range(3)


@dataclass(frozen=True, slots=True)
class Census:
    """What one pass over the source counted: 25 bytes for each row while it is taken, and one afterwards."""

    kinds: bytearray
    """Of each row of the source: GOOD, COPY or BAD."""
    originals: Mapping[int, int]
    """Number of a copy's row -> that of the first row that says the same."""
    dealt: int
    """Chats to be dealt out: those that are neither bad nor copies, which go where their original goes."""
    characters: int
    """Of all chats."""
    pairs: bool
    """Whether these are preferences."""


def take_census(source: ChatSource, settings: PrepareSettings, report: Report) -> Census:
    """Count chats, and find those that say the same.

    Raises:
        DataError: A row is none, and the settings do not say that it is dropped; or only some are preferences.
    """
    prints = bytearray()
    numbers: array[int] = array("Q")
    kinds = bytearray()
    characters = preferences = 0
    for number, chat in enumerate(source.chats()):
        if isinstance(chat, BadRow):
            if settings.chat.on_bad_row == "error":
                raise DataError(f"{chat.id}: {chat.reason}; {OR_DROP}.")
            kinds.append(BAD)
            continue
        kinds.append(GOOD)
        numbers.append(number)
        prints += _digest(chat)
        characters += size_of(chat)
        preferences += bool(chat.rejected)
        report(PrepareProgress("reading", characters))
    if preferences not in (0, len(numbers)):
        raise DataError(
            f"{preferences} of {len(numbers)} chats are preferences, with an answer that is rejected, and the others are none; "
            "give them to two experiments."
        )
    originals = originals_of(array("Q", bytes(8 * len(numbers))), prints)
    copies = np.flatnonzero(originals != np.arange(len(originals)))
    firsts = cast("list[int]", originals[copies].tolist())
    found = {numbers[place]: numbers[first] for place, first in zip(copies.tolist(), firsts, strict=True)}
    for number in found:
        kinds[number] = COPY
    return Census(kinds, found, len(numbers) - len(found), characters, bool(preferences))


def _digest(chat: ChatExample) -> bytes:
    said = [table_of(chat.messages), table_of(chat.rejected), chat.facts.get("tools")]
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=DIGEST_BYTES).digest()


def size_of(chat: ChatExample) -> int:
    """Characters of all messages."""
    return sum(len(message.content) for message in (*chat.messages, *chat.rejected))


Deal = Callable[[ChatExample, int], str]
"""The split of a chat that is no copy; the number counts those."""


def deal_of(settings: PrepareSettings, census: Census) -> Deal:
    """How chats are dealt out, each whole.

    Raises:
        DataError: There are too few.
    """
    fractions = settings.val_fraction, settings.test_fraction
    ends = chat_ends(census.dealt, *fractions)
    if settings.split_by == "hash":
        return lambda chat, _number: split_of_id(chat.id, *fractions)
    return lambda _chat, number: next(split for split, end in zip(SPLITS, ends, strict=True) if number < end)


@dataclass(frozen=True, slots=True)
class Dealt:
    """A row of the source, and where it goes."""

    number: int
    chat: ChatExample | BadRow
    place: str
    """A split, or why it is left out."""


def dealt_out(
    source: ChatSource, census: Census, deal: Deal, phase: Phase, report: Report, *, drops: bool
) -> Iterator[Dealt]:
    """Every row of the source with its place; an error where it is not what the census counted.

    A copy that is not dropped goes where its original went: else what is trained on would be validated on.

    Raises:
        DataError: The source changed.
    """
    dealt = characters = 0
    number = -1
    copied = set(census.originals.values())
    places: dict[int, str] = {}
    for number, chat in enumerate(source.chats()):
        if number >= len(census.kinds) or isinstance(chat, BadRow) != (census.kinds[number] == BAD):
            raise changed_meanwhile(f"{chat.id} is another row than before")
        if isinstance(chat, BadRow):
            yield Dealt(number, chat, BAD_ROW)
        elif census.kinds[number] == COPY:
            yield Dealt(number, chat, DUPLICATE if drops else places[census.originals[number]])
        else:
            place = deal(chat, dealt)
            if number in copied:
                places[number] = place
            yield Dealt(number, chat, place)
            dealt += 1
        if not isinstance(chat, BadRow):
            characters += size_of(chat)
            report(PrepareProgress(phase, characters, census.characters))
    if number + 1 < len(census.kinds):
        raise changed_meanwhile(f"it has {number + 1} rows, where {len(census.kinds)} were counted before")
