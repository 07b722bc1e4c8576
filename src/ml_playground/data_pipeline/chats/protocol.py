"""What a source of chats offers: chats as a stream, rows that are none named, and an account of what they were read from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.source_protocol import Provenance


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that no chat can be made of."""

    id: str
    """File and line."""
    reason: str
    """What is wrong, and what to do about it."""
    characters: int = 0
    """That are lost with it."""


class RowFault(Exception):  # noqa: N818 - it is the row that is at fault
    """A chat that cannot be trained on; the text says why, and what to do about it."""


class ChatSource(Protocol):
    """Chats that can be read more than once."""

    def chats(self) -> Iterator[ChatExample | BadRow]:
        """All chats in a fixed order, each with an id of its own; a row that is none in its place.

        Raises:
            DataError: Something is missing or unreadable as a whole.
        """
        ...

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of what `chats` reads.

        Raises:
            DataError: As for `chats`.
        """
        ...


class ChatProfile(Protocol):
    """What preparing asks of a profile; see profiles.protocol."""

    def transform(self, example: ChatExample, index: int) -> ChatExample:
        """The chat as it is trained on."""
        ...

    def prompted(self, messages: Sequence[Message], today: date) -> tuple[Message, ...]:
        """The messages with the profile's system prompt."""
        ...

    def validate(self, example: ChatExample) -> Sequence[str]:
        """What is wrong with a transformed chat, in words."""
        ...
