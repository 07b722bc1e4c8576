"""Where every file, document, character and token went; the counts must balance."""

from collections.abc import Mapping

from ml_playground.configuration.base import CountOrZero, Strict


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
    end_marks: CountOrZero = 0
    """Ids that end a document."""

    @property
    def tokens(self) -> int:
        """All ids."""
        return self.text_tokens + self.end_marks


class Ledger(Strict):
    """A prepared data set's books."""

    files_found: CountOrZero
    files_used: CountOrZero
    files_skipped: Mapping[str, CountOrZero]
    """How many, by reason."""
    documents: CountOrZero
    """Of the source."""
    characters: CountOrZero
    """Of the source."""
    bytes: CountOrZero
    """Of the source's text in UTF-8."""
    ends_marked: bool
    """Whether the tokenizer has an id that ends a document."""
    splits: Mapping[str, SplitCounts]


def imbalances(ledger: Ledger) -> list[str]:
    """Every count that does not add up, in words; none when all is well."""
    splits = list(ledger.splits.values())
    pairs = {
        "files found and files used or skipped": (
            ledger.files_found,
            ledger.files_used + sum(ledger.files_skipped.values()),
        ),
        "characters of the source and of the splits": (ledger.characters, sum(one.characters for one in splits)),
        "bytes of the source and of the splits": (ledger.bytes, sum(one.bytes for one in splits)),
        "ends of documents and end marks": (
            ledger.documents if ledger.ends_marked else 0,
            sum(one.end_marks for one in splits),
        ),
    }
    found = [f"{what} differ: {left} and {right}" for what, (left, right) in pairs.items() if left != right]
    for name, one in ledger.splits.items():
        if one.unknown_tokens > one.text_tokens:
            found.append(f"{name} has {one.unknown_tokens} unknown among {one.text_tokens} tokens of text")
    # A position split may cut one document between two splits, never leave one out.
    parts = sum(one.documents for one in splits)
    if not ledger.documents <= parts <= ledger.documents + max(0, len(splits) - 1):
        found.append(f"{ledger.documents} documents became {parts} parts in {len(splits)} splits")
    return found


def check_balance(ledger: Ledger) -> None:
    """Refuse books that do not balance: then it is the program that lost something, not its user.

    Raises:
        RuntimeError: Some counts do not add up; all are named.
    """
    if found := imbalances(ledger):
        raise RuntimeError(f"the ledger does not balance: {'; '.join(found)}")
