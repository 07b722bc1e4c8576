"""The ledger of a data set that is being made: from what its source, the survey and the writer counted."""

from collections import Counter
from collections.abc import Sequence

from ml_playground.core.error_handling import DataError
from ml_playground.core.humanise import plural
from ml_playground.data_pipeline.encoding import DatasetWriter
from ml_playground.data_pipeline.ledger import Ledger, Losses, LostRow, check_balance
from ml_playground.data_pipeline.loss_limit import check_loss
from ml_playground.data_pipeline.lost_places import MOST_ROWS
from ml_playground.data_pipeline.source_counts import CountingSource, SourceCounts
from ml_playground.data_pipeline.source_protocol import Provenance, Source
from ml_playground.data_pipeline.survey import Survey


def check_skipped(provenance: Provenance, counted: Survey, limit: float) -> None:
    """Refuse a source of which too much is skipped, before the long part of the work.

    Raises:
        DataError: It is.
    """
    skipped = _skipped_bytes(provenance)
    total = counted.bytes + sum(skipped.values())
    check_loss({"not_utf8": skipped["not_utf8"]}, total, limit, _worst(_skipped_rows(provenance)))


def offered_by(source: Source, *, split_by: str, duplicates: str) -> SourceCounts | None:
    """What a source that was read to its end says that it left out and gave again; none where it gives all it has.

    Args:
        source: As it was surveyed.
        split_by: `prepare.split_by`.
        duplicates: `prepare.duplicates`.

    Raises:
        DataError: What it gives again would be validated on as well, or be dropped.
    """
    counts = source.counts() if isinstance(source, CountingSource) else None
    if counts is not None and counts.repeated_documents:
        repeats = (
            f"The mixture gives {plural(counts.repeated_documents, 'document')} again, so that each part is given whole"
        )
        if duplicates == "drop":
            raise DataError(
                f"{repeats}, and prepare.duplicates = 'drop' would leave them out; set it to 'keep', or "
                "prepare.source.epoch_ends = 'first_exhausted'."
            )
        if split_by != "hash":
            raise DataError(
                f"{repeats}; with prepare.split_by = {split_by!r} some would be trained on and validated on. Set "
                "prepare.split_by = 'hash', which keeps a document and its repetitions together, or "
                "prepare.source.epoch_ends = 'first_exhausted'."
            )
    return counts


def balanced(
    provenance: Provenance,
    counted: Survey,
    writer: DatasetWriter,
    unknown: Sequence[LostRow],
    offered: SourceCounts | None,
    *,
    ends_marked: bool,
) -> Ledger:
    """The books, closed and checked.

    Args:
        provenance: Files that were used and skipped.
        counted: Documents, characters and bytes of the source.
        writer: What it wrote, and what it only counted.
        unknown: Where the tokenizer does not know the text.
        offered: What the source left out and gave again, by its own count.
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
        offered=offered,
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
