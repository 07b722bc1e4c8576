"""The error for a training part without any text."""

from collections.abc import Iterable

from ml_playground.core.error_handling import DataError


def no_text(kind: str, why: str) -> DataError:
    """The error; `why` says what a tokenizer of this kind needs text for."""
    return DataError(
        f"The training part holds no text, {why} of a {kind!r} tokenizer; give prepare.source more text, "
        "or prepare.val_fraction and prepare.test_fraction less of it."
    )


def require_text(texts: Iterable[str], kind: str) -> None:
    """Look that there is any, for a tokenizer that is made of files and learns nothing from it.

    Raises:
        DataError: There is none.
    """
    if not any(texts):
        raise no_text(kind, "so there is nothing for the ids")
