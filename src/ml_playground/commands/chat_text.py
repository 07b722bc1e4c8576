"""The books of prepared chats as a person reads them, and as JSON values."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_playground.commands.ledger_text import FATES, filled_share, right_aligned, trained_share
from ml_playground.core.humanise import plural, printable
from ml_playground.core.values import Fates
from ml_playground.data_pipeline.books import Books
from ml_playground.data_pipeline.chats.chat_dataset import ChatManifest
from ml_playground.data_pipeline.chats.chat_ledger import BAD_ROW, ChatCounts, ChatLedger
from ml_playground.data_pipeline.ledger import DUPLICATE
from ml_playground.data_pipeline.loss_limit import CAUSES, bytes_text, percent, row_text

COUNTS: Mapping[str, Callable[[ChatCounts], int]] = {
    "chats": lambda counts: counts.chats,
    "rows": lambda counts: counts.rows,
    "answers": lambda counts: counts.answers,
    "characters": lambda counts: counts.characters,
    "tokens": lambda counts: counts.tokens,
    "  targets": lambda counts: counts.trained,
    "  read only": lambda counts: counts.masked,
    "  unknown": lambda counts: counts.unknown_tokens,
}
PLACES = {DUPLICATE: "duplicates", BAD_ROW: "bad rows"}
"""Where chats go instead of a split, as the head of a column."""


def chat_facts_of(manifest: ChatManifest, books: Mapping[str, Any]) -> dict[str, Any]:
    """What a program wants to know of chats, as JSON values."""
    ledger = manifest.ledger
    return {
        "tokenizer": manifest.tokenizer.kind,
        "vocab_size": manifest.vocab_size,
        "pairs": manifest.pairs,
        "files_used": ledger.files_used,
        "files_skipped": dict(ledger.files_skipped),
        "splits": {
            split: counts.model_dump(mode="json") | {"masked": counts.masked} for split, counts in ledger.splits.items()
        },
        "masked_share": ledger.masked_share(),
        "dropped": {reason: counts.model_dump(mode="json") for reason, counts in ledger.dropped.items()},
        "bad_rows": [row.model_dump(mode="json") for row in ledger.bad_rows],
        "copies": ledger.copies,
        "lost_fraction": books["lost_fraction"],
        "lost_bytes": books["lost_bytes"],
    }


def chat_lines(manifest: ChatManifest, epoch: Mapping[str, Fates], typed: str) -> list[str]:
    """A row for each split of chats, and what is left out."""
    heads = ("", "chats", "rows", "tokens", "targets", "trained an epoch")
    rows = [
        (
            split,
            f"{counts.chats:,}",
            f"{counts.rows:,}",
            f"{counts.tokens:,}",
            f"{counts.trained:,} ({counts.trained / max(1, counts.tokens):.0%})",
            f"{epoch[split].trained:,}" if split in epoch else "not said",
        )
        for split, counts in manifest.ledger.splits.items()
    ]
    lines = [*right_aligned([heads, *rows]), f"vocabulary: {manifest.vocab_size:,} ({manifest.tokenizer.kind})"]
    more = (
        f"; where: mlp data ledger {typed}"
        if manifest.ledger.lost_bytes() or BAD_ROW in manifest.ledger.dropped
        else ""
    )
    return [*lines, *_left_out(manifest.ledger, more)]


def _left_out(ledger: ChatLedger, more: str = "") -> Iterator[str]:
    """What is lost, what is dropped, what is there twice, what looked like a special token."""
    if skipped := ledger.files_skipped:
        reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in skipped.items())
        yield f"skipped:    {sum(skipped.values()):,} of {plural(ledger.files_found, 'file')} ({reasons})"
    causes = ", ".join(f"{bytes_text(size)} {CAUSES[reason].what}" for reason, size in ledger.lost_bytes().items())
    lost = f"{percent(ledger.lost_fraction() or 0.0)} of the text: {causes}" if causes else "nothing"
    if (bad := ledger.dropped.get(BAD_ROW)) is not None:
        yield f"lost:       {lost}"
        yield f"dropped:    {plural(bad.chats, 'row')} that cannot be trained on{more}"
    else:
        yield f"lost:       {lost}{more}"
    if ledger.copies:
        fate = "dropped" if DUPLICATE in ledger.dropped else "kept; prepare.duplicates = 'drop' leaves them out"
        yield f"copies:     {plural(ledger.copies, 'chat')} ({fate})"
    if literal := sum(counts.literal for counts in ledger.splits.values()):
        yield f"spelled:    {plural(literal, 'special token')} in what messages say, encoded as the text that they are"


def chat_ledger_lines(books: Books, manifest: ChatManifest, title: str, encoding: str) -> Iterator[str]:
    """All of it: the source, what lies in which split, what an epoch does with it, what is left out and why."""
    ledger = manifest.ledger
    yield f"{title}: {ledger.files_used:,} of {plural(ledger.files_found, 'file')} used"
    yield ""
    yield from right_aligned(list(_rows(books, ledger)))
    yield ""
    if manifest.pairs:
        yield "pairs:      each two rows are a better and a worse answer to one prompt"
    yield from _left_out(ledger)
    for row in ledger.lost_rows:
        yield f"            {printable(row_text(row), encoding)}"
    for place in ledger.bad_rows:
        yield f"            {printable(f'{place.id}: {place.reason}', encoding)}"


def _rows(books: Books, ledger: ChatLedger) -> Iterator[tuple[str, ...]]:
    """A column for the source, for each split, and for what was left out; a row for each count."""
    left_out = {name: ledger.dropped[reason] for reason, name in PLACES.items() if reason in ledger.dropped}
    parts = {**ledger.splits, **left_out}
    yield "", "source", *parts
    for name, count in COUNTS.items():
        numbers = [count(one) for one in parts.values()]
        total = ledger.chats if name == "chats" else sum(numbers)
        yield name, f"{total:,}", *(f"{number:,}" for number in numbers)
    if books.epoch:
        epoch = [books.epoch.get(name) for name in parts]
        yield "one epoch:", *[""] * (len(parts) + 1)
        for name, fate in FATES.items():
            yield name, "", *("" if fates is None else f"{fate(fates):,}" for fates in epoch)
        for name, share in {"  share trained": trained_share, "  rows filled": filled_share}.items():
            yield name, "", *("" if fates is None else share(fates) for fates in epoch)
