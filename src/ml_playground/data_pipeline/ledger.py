"""Where every file, document, character and token went; the counts must balance."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from ml_playground.configuration.base import Count, CountOrZero, Strict
from ml_playground.data_pipeline.source_counts import SourceCounts

LossReason = Literal["not_utf8", "unknown"]

DUPLICATE = "duplicate"
"""Where copies go instead of a split, when they are dropped."""


class SplitCounts(Strict):
    """What one split holds."""

    documents: CountOrZero = 0
    """Documents, or the parts of them that lie here."""
    characters: CountOrZero = 0
    bytes: CountOrZero = 0
    """Of the text in UTF-8: the denominator of bits per byte."""
    text_tokens: CountOrZero = 0
    """Ids that stand for text."""
    unknown_tokens: CountOrZero = 0
    """Those among them that stand for text the tokenizer does not know."""
    unknown_bytes: CountOrZero = 0
    """Of that text: no id says what it was."""
    end_marks: CountOrZero = 0
    """Ids that end a document."""

    @property
    def tokens(self) -> int:
        """All ids."""
        return self.text_tokens + self.end_marks


class Copies(Strict):
    """Documents whose whole text is that of an earlier one."""

    documents: CountOrZero
    characters: CountOrZero


class LostRow(Strict):
    """A file or document, and what of it no model can learn."""

    name: str
    """Path of the file, or id of the document."""
    reason: LossReason
    bytes: Count
    """Of its text in UTF-8, or of the file."""
    split: str | None = None
    """Where the document lies; none for a file that was skipped."""
    character: CountOrZero | None = None
    """Characters of the document before the first one that is lost."""
    line: Count | None = None
    """The line it stands in, from 1."""
    excerpt: str = ""
    """The text from there on, a few characters."""
    at_byte: CountOrZero | None = None
    """In a file that is no text: the first byte that is none."""


class Losses(Strict):
    """What is lost though nobody asked for it, and what occurs twice."""

    skipped_bytes: Mapping[str, CountOrZero]
    """Of the files that were skipped, by reason."""
    copies: Copies
    """Counted whether they were dropped or not."""
    rows: tuple[LostRow, ...] = ()
    """Where most is lost, most first."""


class SourceLedger(Strict):
    """What the books of every data set begin with: the files of its source."""

    files_found: CountOrZero
    files_used: CountOrZero
    files_skipped: Mapping[str, CountOrZero]
    """How many, by reason."""

    def lost_bytes(self) -> dict[LossReason, int]:
        """Lost though no setting asks for it, by reason: nothing, where nothing can be."""
        return {}

    def lost_fraction(self) -> float | None:
        """Share of the bytes that are wanted; none where losses were not counted."""
        return 0.0


class Ledger(SourceLedger):
    """A prepared text's books."""

    documents: CountOrZero
    """Of the source."""
    characters: CountOrZero
    """Of the source."""
    bytes: CountOrZero
    """Of the source's text in UTF-8."""
    ends_marked: bool
    """Whether the tokenizer has an id that ends a document."""
    splits: Mapping[str, SplitCounts]
    dropped: Mapping[str, SplitCounts] = Field(default_factory=dict)
    """What the settings leave out, by reason, in tokens too; it is in no split."""
    losses: Losses | None = None
    """None: prepared by a version that did not count them."""
    offered: SourceCounts | None = None
    """What the source left out and gave again; none where it gives all it has."""

    def lost_bytes(self) -> dict[LossReason, int]:
        """Of the source's text, by reason: lost though no setting asks for it; reasons with nothing are left out."""
        if self.losses is None:
            return {}
        found: dict[LossReason, int] = {
            "not_utf8": self.losses.skipped_bytes.get("not_utf8", 0),
            "unknown": sum(one.unknown_bytes for one in self.splits.values()),
        }
        return {reason: size for reason, size in found.items() if size}

    def wanted_bytes(self) -> int:
        """Of all that was found, but for what the settings leave out: losses are weighed against it."""
        skipped = 0 if self.losses is None else sum(self.losses.skipped_bytes.values())
        return self.bytes - sum(one.bytes for one in self.dropped.values()) + skipped

    def lost_fraction(self) -> float | None:
        """Share of the bytes that are wanted; none where losses were not counted."""
        return None if self.losses is None else sum(self.lost_bytes().values()) / max(1, self.wanted_bytes())


def imbalances(ledger: Ledger) -> list[str]:
    """Every count that does not add up, in words; none when all is well."""
    parts = [*ledger.splits.values(), *ledger.dropped.values()]
    pairs = {
        "files found and files used or skipped": (
            ledger.files_found,
            ledger.files_used + sum(ledger.files_skipped.values()),
        ),
        "characters of the source and of its parts": (ledger.characters, sum(one.characters for one in parts)),
        "bytes of the source and of its parts": (ledger.bytes, sum(one.bytes for one in parts)),
        "ends of documents and end marks": (
            ledger.documents if ledger.ends_marked else 0,
            sum(one.end_marks for one in parts),
        ),
    }
    if ledger.losses is not None and DUPLICATE in ledger.dropped:
        copies, dropped = ledger.losses.copies, ledger.dropped[DUPLICATE]
        pairs["copies found and dropped"] = copies.documents, dropped.documents
        pairs["characters of copies found and dropped"] = copies.characters, dropped.characters
    found = [f"{what} differ: {left} and {right}" for what, (left, right) in pairs.items() if left != right]
    for name, one in {**ledger.splits, **ledger.dropped}.items():
        if one.unknown_tokens > one.text_tokens:
            found.append(f"{name} has {one.unknown_tokens} unknown among {one.text_tokens} tokens of text")
        if one.unknown_bytes > one.bytes or (one.unknown_bytes and not one.unknown_tokens):
            found.append(
                f"{name} has {one.unknown_bytes} unknown among {one.bytes} bytes, for {one.unknown_tokens} tokens"
            )
    if ledger.offered is not None:
        found += ledger.offered.imbalances(ledger.documents, ledger.characters)
    # A position split may cut one document between two splits, never leave one out.
    shares = sum(one.documents for one in parts)
    if not ledger.documents <= shares <= ledger.documents + max(0, len(ledger.splits) - 1):
        found.append(f"{ledger.documents} documents became {shares} parts in {len(ledger.splits)} splits")
    return found


def check_balance(ledger: Ledger) -> None:
    """Refuse books that do not balance: then it is the program that lost something, not its user.

    Raises:
        RuntimeError: Some counts do not add up; all are named.
    """
    if found := imbalances(ledger):
        raise RuntimeError(f"the ledger does not balance: {'; '.join(found)}")
