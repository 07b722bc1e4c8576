"""A limit on what is lost though nobody asked for it: above it nothing is prepared, and nothing is trained."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ml_playground.core.error_handling import DataError
from ml_playground.core.humanise import plural
from ml_playground.core.values import Fates
from ml_playground.data_pipeline.ledger import Ledger, LossReason, LostRow

LIMIT_KEY = "prepare.max_loss_fraction"


class Cause(NamedTuple):
    """What loses text, and what helps."""

    what: str
    remedy: str


CAUSES: Mapping[LossReason, Cause] = {
    "not_utf8": Cause("in files that are not UTF-8", "write these files as UTF-8, or leave them out of the source"),
    "unknown": Cause(
        "in characters that the tokenizer does not know",
        "take a tokenizer that knows every character (--set 'prepare.tokenizer={kind=\"byte_bpe\"}')",
    ),
}
SPLITTING = ", or set data.truncation = 'split'"
BY_HASH = ", or show it these in training (--set prepare.split_by=hash deals documents out evenly)"
LEAST_DOCUMENTS_BY_HASH = 20
"""Of fewer, dealt out by the hash of their names, one split may get none and another one most of what is rare."""


def check_ledger(ledger: Ledger, limit: float, split_by: str) -> None:
    """Refuse a data set that lost too much; one whose losses were not counted is let through.

    Args:
        ledger: What became of the text.
        limit: `prepare.max_loss_fraction`.
        split_by: `prepare.split_by` of the data set: what is set already is no advice.

    Raises:
        DataError: More than `limit` of the text is lost; says why, where most of it, and what to do.
    """
    if ledger.losses is not None:
        documents = ledger.documents - sum(one.documents for one in ledger.dropped.values())
        hash_helps = split_by != "hash" and documents >= LEAST_DOCUMENTS_BY_HASH
        check_loss(ledger.lost_bytes(), ledger.wanted_bytes(), limit, ledger.losses.rows, hash_helps=hash_helps)


def check_loss(
    lost: Mapping[LossReason, int],
    wanted_bytes: int,
    limit: float,
    rows: Sequence[LostRow],
    *,
    hash_helps: bool = False,
) -> None:
    """Refuse to lose more of a text than its user allows.

    Args:
        lost: Bytes by reason.
        wanted_bytes: Of the source, without what the settings leave out.
        limit: `prepare.max_loss_fraction`.
        rows: Where most is lost, most first.
        hash_helps: Whether documents that are dealt out by hash could lose less.

    Raises:
        DataError: Too much is lost.
    """
    fraction = sum(lost.values()) / max(1, wanted_bytes)
    if fraction <= limit:
        return
    causes = ", ".join(f"{bytes_text(size)} {CAUSES[reason].what}" for reason, size in lost.items())
    most = f" Most is lost in {row_text(rows[0])}." if rows else ""
    remedies = "; or ".join(
        CAUSES[reason].remedy + (BY_HASH if reason == "unknown" and hash_helps else "") for reason in lost
    )
    raise DataError(
        f"{percent(fraction)} of the text would be lost, more than {LIMIT_KEY} = {limit:g} allows: {causes}.{most} "
        f"To keep it: {remedies}. To do without it: {_allowing(fraction)}."
    )


def check_epoch(fates: Mapping[str, Fates], limit: float, *, can_split: bool) -> None:
    """Refuse a way of cutting batches that leaves out too much of a split.

    Args:
        fates: Of each split.
        limit: `prepare.max_loss_fraction`.
        can_split: Whether another `data.truncation` would make several rows of what is too long.

    Raises:
        DataError: It does; names the split.
    """
    for split, one in fates.items():
        left_out = one.truncated + one.dropped
        if left_out > limit * one.tokens:
            fraction = left_out / one.tokens
            raise DataError(
                f"An epoch leaves out {percent(fraction)} of {split!r}, more than {LIMIT_KEY} = {limit:g} allows: "
                f"{one.truncated:,} tokens are cut off rows that are too long, {one.dropped:,} are in rows that are left out. "
                f"To keep them: raise data.sequence_tokens{SPLITTING if can_split else ''}. To do without them: {_allowing(fraction)}."
            )


def row_text(row: LostRow) -> str:
    """Where it is, how much of it is lost, and what stands there."""
    size = bytes_text(row.bytes)
    if row.line is None or row.character is None:
        at_byte = "" if row.at_byte is None else f", byte {row.at_byte:,}"
        return f"{row.name}{at_byte} ({size})"
    return f"{row.name}, line {row.line:,}, character {row.character:,}: {row.excerpt!r} ({size} of {row.split})"


def bytes_text(size: int) -> str:
    """`1 byte`, `2,000 bytes`."""
    return plural(size, "byte")


def percent(fraction: float) -> str:
    """Two figures: `12 %`, `3.4 %`, `0.018 %`."""
    return f"{100 * fraction:.2g} %" if fraction < 0.995 else f"{100 * fraction:.3g} %"  # noqa: PLR2004 - 1e+02 otherwise


def _allowing(fraction: float) -> str:
    """What to type so that it is allowed: the fraction, rounded up to two figures."""
    unit = 10.0 ** (math.floor(math.log10(fraction)) - 1)
    return f"--set {LIMIT_KEY}={min(1.0, math.ceil(fraction / unit) * unit):.2g}"
