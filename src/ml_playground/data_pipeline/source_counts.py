"""What a source that does not give all it has counts itself: rows without text, what a mixture repeats and leaves out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pydantic import Field

from ml_playground.configuration.base import CountOrZero, Strict

MOST_PLACES = 3
"""Examples of each reason: enough to look."""

REASONS: Mapping[str, str] = {
    "no_content": "without text",
    "broken": "that cannot be read",
    "tags": "in parts that prepare.source.tags leaves out",
    "beyond_share": "beyond the share of their part in the mixture",
}
"""Why something is left out, in words that follow `12 documents`."""


class LeftOut(Strict):
    """What a source has and does not give."""

    documents: CountOrZero = 0
    """Or rows."""
    characters: CountOrZero = 0
    """As far as there are any."""
    places: tuple[str, ...] = ()
    """The first of them: file and line."""


class SourceCounts(Strict):
    """One whole reading of a source."""

    found: CountOrZero = 0
    """Rows, or documents, that are there."""
    left_out: Mapping[str, LeftOut] = Field(default_factory=dict)
    """By reason."""
    repeated_documents: CountOrZero = 0
    """Given again, so that another part of a mixture is given whole."""
    repeated_characters: CountOrZero = 0
    shares: Mapping[str, CountOrZero] = Field(default_factory=dict)
    """Of a mixture: characters that each part gives."""

    def imbalances(self, documents: int, characters: int) -> list[str]:
        """What does not add up with what was counted by whoever read the documents; none when all is well."""
        given = self.found + self.repeated_documents - sum(one.documents for one in self.left_out.values())
        found: list[str] = []
        if given != documents:
            found.append(f"rows of the source and documents differ: {given} and {documents}")
        if self.shares and sum(self.shares.values()) != characters:
            found.append(f"characters of the parts and of all differ: {sum(self.shares.values())} and {characters}")
        return found


@dataclass(slots=True)
class Counter:
    """`SourceCounts` that grow: validating them for each row would take longer than reading it."""

    found: int = 0
    repeated_documents: int = 0
    repeated_characters: int = 0
    shares: dict[str, int] = field(default_factory=dict[str, int])
    _left_out: dict[str, LeftOut] = field(default_factory=dict[str, LeftOut])

    def leave_out(self, reason: str, place: str, characters: int, documents: int = 1) -> None:
        """Count what is not given."""
        self.add_left_out(reason, LeftOut(documents=documents, characters=characters, places=(place,)))

    def add_left_out(self, reason: str, more: LeftOut) -> None:
        """Add what somebody else has counted."""
        one = self._left_out.get(reason, LeftOut())
        self._left_out[reason] = LeftOut(
            documents=one.documents + more.documents,
            characters=one.characters + more.characters,
            places=(*one.places, *more.places)[:MOST_PLACES],
        )

    def counts(self) -> SourceCounts:
        """What was counted so far."""
        return SourceCounts(
            found=self.found,
            left_out=self._left_out,
            repeated_documents=self.repeated_documents,
            repeated_characters=self.repeated_characters,
            shares=self.shares,
        )


@runtime_checkable
class CountingSource(Protocol):
    """A source that leaves out some of what it has, or gives some of it again."""

    def counts(self) -> SourceCounts:
        """Of the last time that `documents` was read to its end."""
        ...
