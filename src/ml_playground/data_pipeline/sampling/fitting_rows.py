"""Whether prepared chats fit into the rows that were asked for; if not, which do not, and what to do. Free of torch."""

from collections.abc import Mapping
from pathlib import Path

from ml_playground.core.error_handling import DataError
from ml_playground.core.humanise import plural
from ml_playground.data_pipeline.sampling.cutting import Cut, too_long
from ml_playground.data_pipeline.sampling.examples import Examples, names_of
from ml_playground.data_pipeline.settings import ExampleRows

NAMED = 3
"""Of the chats that are too long, the longest."""


def check_fit(folder: Path, examples: Mapping[str, Examples], settings: ExampleRows) -> None:
    """With `truncation = "error"`, refuse chats that no row holds.

    Raises:
        DataError: There are some; it names the longest, and what would hold all.
    """
    if settings.truncation != "error":
        return
    found = {split: too_long(held, settings.sequence_tokens) for split, held in examples.items()}
    longest = [
        (int(examples[split].lengths[row]), name)
        for split, rows in found.items()
        if len(rows)
        for row, name in zip(rows[:NAMED].tolist(), names_of(folder, split, rows[:NAMED].tolist()), strict=True)
    ]
    if not longest:
        return
    longest.sort(key=lambda pair: -pair[0])
    counts = ", ".join(f"{len(rows):,} of {len(examples[split].lengths):,} in {split}" for split, rows in found.items())
    # Both answers of a pair come from one line, and its longer one first.
    once = {name: tokens for tokens, name in reversed(longest[:NAMED])}
    named = ", ".join(f"{name} ({plural(tokens, 'token')})" for name, tokens in reversed(once.items()))
    ways = (
        "left or right cuts off that side"
        if settings.pairs
        else "split makes several rows of them, left and right cut off that side"
    )
    fits = max(longest)[0] - 1
    raise DataError(
        f"data.sequence_tokens = {settings.sequence_tokens} is too short for some of the chats ({counts}). The longest: "
        f"{named}. All of them fit with --set data.sequence_tokens={fits}; or say what becomes of those that are too long: "
        f"--set data.truncation={ways}, drop leaves them out."
    )


def check_rows(folder: Path, cuts: Mapping[str, Cut], settings: ExampleRows) -> None:
    """Refuse a split of which nothing is left to train on.

    Raises:
        DataError: It names the split, and what its tokens became.
    """
    for split, held in cuts.items():
        if not len(held.rows):
            raise DataError(
                f"No chat of the split {split!r} of {folder} has a target in the {settings.sequence_tokens + 1} tokens that a row "
                f"holds: of its {plural(held.tokens, 'token')} {held.truncated:,} are cut off and {held.dropped:,} left out "
                f"(data.truncation = {settings.truncation!r}). Raise data.sequence_tokens, choose another data.truncation, or "
                "give the source more chats."
            )
