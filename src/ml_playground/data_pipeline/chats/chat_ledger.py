"""Where every chat of a source went, and every token of it; the counts must balance."""

from collections.abc import Mapping

from pydantic import Field

from ml_playground.configuration.base import CountOrZero, Strict
from ml_playground.data_pipeline.ledger import DUPLICATE, LossReason, LostRow, SourceLedger
from ml_playground.data_pipeline.loss_limit import check_loss

BAD_ROW = "bad_row"
"""Where rows go that no chat can be made of, when they are dropped."""


class ChatCounts(Strict):
    """What one split holds."""

    chats: CountOrZero = 0
    rows: CountOrZero = 0
    """What is trained on: a chat is one row, or more where the template alters its turns; a preference is two."""
    answers: CountOrZero = 0
    """Turns of the assistant that are targets."""
    characters: CountOrZero = 0
    """Of the rendered text."""
    bytes: CountOrZero = 0
    """Of the same in UTF-8."""
    tokens: CountOrZero = 0
    trained: CountOrZero = 0
    """Tokens that are targets."""
    literal: CountOrZero = 0
    """Places at which a message spells a special token, and is encoded as the text it is."""
    unknown_tokens: CountOrZero = 0
    """Ids that stand for text the tokenizer does not know."""
    unknown_bytes: CountOrZero = 0
    """Of that text."""

    @property
    def masked(self) -> int:
        """Tokens that are read, and are never targets."""
        return self.tokens - self.trained


class BadRowPlace(Strict):
    """A row that was dropped, and why."""

    id: str
    reason: str


class ChatLedger(SourceLedger):
    """A prepared data set of chats: each is in a split, or dropped."""

    chats: CountOrZero
    """Of the source, bad rows among them."""
    copies: CountOrZero
    """Chats with the very messages of an earlier one, counted whether they were dropped or not."""
    splits: Mapping[str, ChatCounts]
    dropped: Mapping[str, ChatCounts] = Field(default_factory=dict)
    """What the settings leave out, by reason: copies in tokens too, bad rows in characters, for they have no tokens."""
    bad_rows: tuple[BadRowPlace, ...] = ()
    """The first of those that were dropped."""
    lost_rows: tuple[LostRow, ...] = ()
    """Chats of which most is lost, most first."""

    def lost_bytes(self) -> dict[LossReason, int]:
        """In characters that the tokenizer does not know."""
        unknown = sum(one.unknown_bytes for one in self.splits.values())
        return {"unknown": unknown} if unknown else {}

    def lost_fraction(self) -> float | None:
        """Share of the rendered text."""
        return sum(self.lost_bytes().values()) / max(1, self._bytes())

    def masked_share(self) -> float:
        """Share of all tokens that are no targets."""
        tokens = sum(one.tokens for one in self.splits.values())
        return sum(one.masked for one in self.splits.values()) / max(1, tokens)

    def check_losses(self, limit: float) -> None:
        """Refuse more than a share of the text lost unasked.

        Raises:
            DataError: More is.
        """
        check_loss(self.lost_bytes(), self._bytes(), limit, self.lost_rows)

    def _bytes(self) -> int:
        return sum(one.bytes for one in self.splits.values())


def chat_imbalances(ledger: ChatLedger) -> list[str]:
    """Every count that does not add up, in words; none when all is well."""
    parts = {**ledger.splits, **ledger.dropped}
    pairs = {
        "files found and files used or skipped": (
            ledger.files_found,
            ledger.files_used + sum(ledger.files_skipped.values()),
        ),
        "chats of the source and of its parts": (ledger.chats, sum(one.chats for one in parts.values())),
    }
    if DUPLICATE in ledger.dropped:
        pairs["copies found and dropped"] = ledger.copies, ledger.dropped[DUPLICATE].chats
    found = [f"{what} differ: {left} and {right}" for what, (left, right) in pairs.items() if left != right]
    for name, one in parts.items():
        if one.trained > one.tokens or one.unknown_tokens > one.tokens:
            found.append(f"{name} has {one.trained} trained and {one.unknown_tokens} unknown among {one.tokens} tokens")
        if one.rows < one.chats and name != BAD_ROW:
            found.append(f"{name} has {one.rows} rows of {one.chats} chats")
    return found
