"""Books that do not balance are found out, each in words."""

from typing import Any

import pytest

from ml_playground.data_pipeline.ledger import Ledger, SplitCounts, check_balance, imbalances

TRAIN = SplitCounts(documents=2, characters=90, bytes=95, text_tokens=90, unknown_tokens=0, end_marks=1)
VAL = SplitCounts(documents=1, characters=10, bytes=10, text_tokens=10, unknown_tokens=3, end_marks=1)


def ledger(**changes: Any) -> Ledger:
    """Two documents, the second cut between train and val."""
    books: dict[str, Any] = {
        "files_found": 3,
        "files_used": 2,
        "files_skipped": {"empty": 1},
        "documents": 2,
        "characters": 100,
        "bytes": 105,
        "ends_marked": True,
        "splits": {"train": TRAIN, "val": VAL},
    }
    return Ledger.model_validate(books | changes)


def test_imbalances_of_good_books_are_none() -> None:
    """Everything adds up."""
    assert imbalances(ledger()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files_found": 4}, "files found and files used or skipped differ: 4 and 3"),
        ({"characters": 101}, "characters of the source and of the splits differ: 101 and 100"),
        ({"bytes": 104}, "bytes of the source and of the splits differ: 104 and 105"),
        ({"ends_marked": False}, "ends of documents and end marks differ: 0 and 2"),
    ],
)
def test_imbalances_name_the_counts_that_differ(changes: dict[str, Any], message: str) -> None:
    """One line each."""
    assert imbalances(ledger(**changes)) == [message]


def test_imbalances_more_unknown_than_tokens_is_found() -> None:
    """A part is not more than its whole."""
    splits = {"train": TRAIN, "val": VAL.model_copy(update={"unknown_tokens": 11})}
    assert imbalances(ledger(splits=splits)) == ["val has 11 unknown among 10 tokens of text"]


def test_imbalances_more_parts_than_cuts_can_make_is_found() -> None:
    """Two splits cut one document at most."""
    splits = {"train": TRAIN.model_copy(update={"documents": 5}), "val": VAL}
    assert imbalances(ledger(splits=splits)) == ["2 documents became 6 parts in 2 splits"]


def test_tokens_are_text_and_end_marks() -> None:
    """What lies in the file."""
    assert TRAIN.tokens == 91


def test_check_balance_names_everything_that_is_wrong() -> None:
    """A program that lost something does not go on."""
    check_balance(ledger())
    with pytest.raises(RuntimeError, match=r"does not balance: files found .* 4 and 3; characters .* 1 and 100"):
        check_balance(ledger(files_found=4, characters=1))
