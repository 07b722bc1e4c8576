"""The books of a data set as a person reads them: tables with their columns in line, and what is lost in words."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from ml_playground.core.humanise import plural, printable
from ml_playground.core.values import Fates
from ml_playground.data_pipeline.books import Books
from ml_playground.data_pipeline.ledger import Ledger, SplitCounts
from ml_playground.data_pipeline.loss_limit import CAUSES, bytes_text, percent, row_text
from ml_playground.data_pipeline.source_counts import REASONS

COUNTS: Mapping[str, Callable[[SplitCounts], int]] = {
    "characters": lambda counts: counts.characters,
    "bytes": lambda counts: counts.bytes,
    "tokens": lambda counts: counts.tokens,
    "  end marks": lambda counts: counts.end_marks,
    "  unknown": lambda counts: counts.unknown_tokens,
}
FATES: Mapping[str, Callable[[Fates], int]] = {
    "  trained": lambda fates: fates.trained,
    "  masked": lambda fates: fates.masked,
    "  truncated": lambda fates: fates.truncated,
    "  dropped": lambda fates: fates.dropped,
    "  padding": lambda fates: fates.padding,
}
NOT_COUNTED = "not counted, for the data were prepared by an older version; `mlp prepare EXPERIMENT --fresh` counts"


def right_aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines; the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def lost_text(ledger: Ledger) -> str:
    """How much of the text is lost, and to what."""
    fraction = ledger.lost_fraction()
    if fraction is None:
        return NOT_COUNTED
    causes = ", ".join(f"{bytes_text(size)} {CAUSES[reason].what}" for reason, size in ledger.lost_bytes().items())
    return f"{percent(fraction)} of the text: {causes}" if causes else "nothing"


def copies_text(ledger: Ledger) -> str:
    """How many documents are copies, and what becomes of them; empty where there are none."""
    if ledger.losses is None or not ledger.losses.copies.documents:
        return ""
    copies = ledger.losses.copies
    if ledger.offered is not None and ledger.offered.repeated_documents:
        # A mixture that repeats refuses to drop copies.
        fate = "kept; what is repeated is among them"
    else:
        fate = "dropped" if ledger.dropped else "kept; prepare.duplicates = 'drop' leaves them out"
    return f"{plural(copies.documents, 'document')}, {plural(copies.characters, 'character')} ({fate})"


def offered_lines(ledger: Ledger, encoding: str = "utf-8") -> Iterator[str]:
    """What the source itself left out and gave again, and the shares of a mixture; nothing where it gives all it has."""
    offered = ledger.offered
    if offered is None:
        return
    if offered.shares:
        total = max(1, sum(offered.shares.values()))
        shares = ", ".join(f"{name} {100 * given / total:.2f} %" for name, given in offered.shares.items())
        yield f"mixture:    {shares} of the characters"
    if offered.repeated_documents:
        size = plural(offered.repeated_characters, "character")
        yield f"repeated:   {plural(offered.repeated_documents, 'document')}, {size}"
    for reason, one in offered.left_out.items():
        rows = [plural(one.documents, "document")] if one.documents else []
        characters = [plural(one.characters, "character")] if one.characters else []
        first = f" (first: {', '.join(one.places)})" if one.places else ""
        yield printable(f"left out:   {', '.join(rows + characters)} {REASONS[reason]}{first}", encoding)


def ledger_lines(books: Books, ledger: Ledger, title: str, encoding: str) -> Iterator[str]:
    """All of a text's: the source, what lies in which split, what an epoch does with it, what is lost and where."""
    yield f"{title}: {ledger.files_used:,} of {plural(ledger.files_found, 'file')} used" + _skipped(ledger)
    yield ""
    yield from right_aligned(list(_rows(books, ledger)))
    yield ""
    yield f"lost:       {lost_text(ledger)}"
    for row in ledger.losses.rows if ledger.losses else ():
        yield f"            {printable(row_text(row), encoding)}"
    if copies := copies_text(ledger):
        yield f"copies:     {copies}"
    yield from offered_lines(ledger, encoding)


def _skipped(ledger: Ledger) -> str:
    reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in ledger.files_skipped.items())
    return f" ({reasons})" if reasons else ""


def _rows(books: Books, ledger: Ledger) -> Iterator[tuple[str, ...]]:
    """A column for the source, for each split, and for what was left out; a row for each count."""
    parts = {**ledger.splits, **{f"{reason}s": counts for reason, counts in ledger.dropped.items()}}
    yield "", "source", *parts
    # A split by position may cut a document in two: these parts may be more than the documents.
    yield "documents", f"{ledger.documents:,}", *(f"{one.documents:,}" for one in parts.values())
    for name, count in COUNTS.items():
        numbers = [count(one) for one in parts.values()]
        yield name, f"{sum(numbers):,}", *(f"{number:,}" for number in numbers)
    if books.epoch:
        epoch = [books.epoch.get(name) for name in parts]
        yield "one epoch:", *[""] * (len(parts) + 1)
        for name, fate in FATES.items():
            yield name, "", *("" if fates is None else f"{fate(fates):,}" for fates in epoch)
        yield "  share trained", "", *("" if fates is None else trained_share(fates) for fates in epoch)


def trained_share(fates: Fates) -> str:
    """Share of the tokens that an epoch trains, rounded down: 100 % is all of them."""
    return f"{math.floor(10_000 * fates.trained / fates.tokens) / 100:.2f} %" if fates.tokens else "none"


def filled_share(fates: Fates) -> str:
    """Tokens among tokens and empty positions of the batches of an epoch, rounded down."""
    held = fates.trained + fates.masked
    return f"{math.floor(10_000 * held / (held + fates.padding)) / 100:.2f} %" if held else "none"
