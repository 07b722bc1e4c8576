"""Books that do not balance are found out, each in words; and what they call lost."""

from typing import Any

import pytest

from ml_playground.data_pipeline.ledger import Copies, Ledger, Losses, SplitCounts, check_balance, imbalances

TRAIN = SplitCounts(documents=2, characters=90, bytes=95, text_tokens=90, unknown_tokens=0, end_marks=1)
VAL = SplitCounts(documents=1, characters=10, bytes=10, text_tokens=10, unknown_tokens=3, unknown_bytes=4, end_marks=1)
LOSSES = Losses(skipped_bytes={"empty": 0}, copies=Copies(documents=0, characters=0))


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
        "losses": LOSSES,
    }
    return Ledger.model_validate(books | changes)


def with_copy(**copies: int) -> Ledger:
    """A third document, a copy of five characters, dropped."""
    found = Copies.model_validate({"documents": 1, "characters": 5} | copies)
    return ledger(
        documents=3,
        characters=105,
        bytes=110,
        dropped={"duplicate": SplitCounts(documents=1, characters=5, bytes=5, text_tokens=5, end_marks=1)},
        losses=LOSSES.model_copy(update={"copies": found}),
    )


def test_imbalances_of_good_books_are_none() -> None:
    """Everything adds up, with copies that were dropped and without; before losses were counted, too."""
    assert imbalances(ledger()) == []
    assert imbalances(ledger(losses=None)) == []
    assert imbalances(with_copy()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files_found": 4}, "files found and files used or skipped differ: 4 and 3"),
        ({"characters": 101}, "characters of the source and of its parts differ: 101 and 100"),
        ({"bytes": 104}, "bytes of the source and of its parts differ: 104 and 105"),
        ({"ends_marked": False}, "ends of documents and end marks differ: 0 and 2"),
    ],
)
def test_imbalances_name_the_counts_that_differ(changes: dict[str, Any], message: str) -> None:
    """One line each."""
    assert imbalances(ledger(**changes)) == [message]


@pytest.mark.parametrize(
    ("copies", "message"),
    [
        ({"documents": 2}, "copies found and dropped differ: 2 and 1"),
        ({"characters": 6}, "characters of copies found and dropped differ: 6 and 5"),
    ],
)
def test_imbalances_of_copies_are_found(copies: dict[str, int], message: str) -> None:
    """Nothing is dropped but what is a copy."""
    assert imbalances(with_copy(**copies)) == [message]


def test_imbalances_more_unknown_than_tokens_is_found() -> None:
    """A part is not more than its whole."""
    splits = {"train": TRAIN, "val": VAL.model_copy(update={"unknown_tokens": 11})}
    assert imbalances(ledger(splits=splits)) == ["val has 11 unknown among 10 tokens of text"]


@pytest.mark.parametrize("changes", [{"unknown_bytes": 11}, {"unknown_tokens": 0}])
def test_imbalances_unknown_bytes_without_text_or_tokens_are_found(changes: dict[str, int]) -> None:
    """What no id stands for has an id that says so."""
    val = VAL.model_copy(update=changes)
    found = imbalances(ledger(splits={"train": TRAIN, "val": val}))
    assert found == [f"val has {val.unknown_bytes} unknown among 10 bytes, for {val.unknown_tokens} tokens"]


def test_imbalances_more_parts_than_cuts_can_make_is_found() -> None:
    """Two splits cut one document at most."""
    splits = {"train": TRAIN.model_copy(update={"documents": 5}), "val": VAL}
    assert imbalances(ledger(splits=splits)) == ["2 documents became 6 parts in 2 splits"]


def test_tokens_are_text_and_end_marks() -> None:
    """What lies in the file."""
    assert TRAIN.tokens == 91


def test_lost_bytes_are_those_nobody_asked_to_lose() -> None:
    """Skipped files and unknown text; neither empty files nor copies."""
    skipped = LOSSES.model_copy(update={"skipped_bytes": {"empty": 0, "not_utf8": 16}})
    assert ledger(losses=skipped).lost_bytes() == {"not_utf8": 16, "unknown": 4}
    assert ledger(losses=skipped).lost_fraction() == 20 / (105 + 16)
    assert with_copy().lost_bytes() == {"unknown": 4}
    assert with_copy().lost_fraction() == ledger().lost_fraction() == 4 / 105


def test_lost_fraction_of_books_that_did_not_count_is_not_zero() -> None:
    """Nobody knows."""
    assert ledger(losses=None).lost_fraction() is None
    assert ledger(losses=None).lost_bytes() == {}


def test_check_balance_names_everything_that_is_wrong() -> None:
    """A program that lost something does not go on."""
    check_balance(ledger())
    with pytest.raises(RuntimeError, match=r"does not balance: files found .* 4 and 3; characters .* 1 and 100"):
        check_balance(ledger(files_found=4, characters=1))
