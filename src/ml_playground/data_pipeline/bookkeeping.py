"""The ledger of a data set that is being made: from what its source, the survey and the writer counted."""

from collections import Counter
from collections.abc import Sequence

from ml_playground.data_pipeline.encoding import DatasetWriter
from ml_playground.data_pipeline.ledger import Ledger, Losses, LostRow, check_balance
from ml_playground.data_pipeline.loss_limit import check_loss
from ml_playground.data_pipeline.lost_places import MOST_ROWS
from ml_playground.data_pipeline.source_protocol import Provenance
from ml_playground.data_pipeline.survey import Survey


def check_skipped(provenance: Provenance, counted: Survey, limit: float) -> None:
    """Refuse a source of which too much is skipped, before the long part of the work.

    Raises:
        DataError: It is.
    """
    skipped = _skipped_bytes(provenance)
    total = counted.bytes + sum(skipped.values())
    check_loss({"not_utf8": skipped["not_utf8"]}, total, limit, _worst(_skipped_rows(provenance)))


def balanced(
    provenance: Provenance, counted: Survey, writer: DatasetWriter, unknown: Sequence[LostRow], *, ends_marked: bool
) -> Ledger:
    """The books, closed and checked.

    Args:
        provenance: Files that were used and skipped.
        counted: Documents, characters and bytes of the source.
        writer: What it wrote, and what it only counted.
        unknown: Where the tokenizer does not know the text.
        ends_marked: Whether the tokenizer has an id that ends a document.

    Raises:
        RuntimeError: They do not balance.
    """
    ledger = Ledger(
        files_found=len(provenance.files) + len(provenance.skipped),
        files_used=len(provenance.files),
        files_skipped=dict(Counter(file.reason for file in provenance.skipped)),
        documents=len(counted.lengths),
        characters=counted.characters,
        bytes=counted.bytes,
        ends_marked=ends_marked,
        splits=writer.counts,
        dropped=writer.dropped,
        losses=Losses(
            skipped_bytes=_skipped_bytes(provenance),
            copies=counted.counted_copies(),
            rows=_worst([*_skipped_rows(provenance), *unknown]),
        ),
    )
    check_balance(ledger)
    return ledger


def _skipped_bytes(provenance: Provenance) -> Counter[str]:
    """By reason."""
    sizes: Counter[str] = Counter()
    for file in provenance.skipped:
        sizes[file.reason] += file.size_bytes or 0
    return sizes


def _skipped_rows(provenance: Provenance) -> list[LostRow]:
    """The files that were skipped although they hold something."""
    return [
        LostRow(name=file.name, reason=file.reason, bytes=file.size_bytes, at_byte=file.at_byte)
        for file in provenance.skipped
        if file.reason != "empty" and file.size_bytes
    ]


def _worst(rows: Sequence[LostRow]) -> tuple[LostRow, ...]:
    """Those that lose most, most first."""
    return tuple(sorted(rows, key=lambda row: -row.bytes)[:MOST_ROWS])
