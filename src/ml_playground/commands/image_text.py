"""The books of prepared images as a person reads them, and as JSON values."""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_playground.commands.ledger_text import right_aligned, trained_share
from ml_playground.core.humanise import plural
from ml_playground.core.values import Fates
from ml_playground.data_pipeline.books import Books
from ml_playground.data_pipeline.image_dataset import ImageManifest
from ml_playground.data_pipeline.image_ledger import ImageLedger

MOST_CLASSES = 20
"""Of more the ledger counts no class alone."""


def image_facts_of(manifest: ImageManifest) -> dict[str, Any]:
    """What a program wants to know of images, as JSON values."""
    ledger, image = manifest.ledger, manifest.image
    return {
        "shape": [image.channels, image.height, image.width],
        "class_names": list(image.class_names),
        "files_used": ledger.files_used,
        "splits": {
            split: counts.model_dump(mode="json") | {"images": counts.images} for split, counts in ledger.splits.items()
        },
        "dropped": {reason: counts.images for reason, counts in ledger.dropped.items()},
        "copies": ledger.copies,
        "contradicting_copies": ledger.contradicting_copies,
    }


def image_lines(manifest: ImageManifest, epoch: Mapping[str, Fates]) -> list[str]:
    """A row for each split, and what the images are."""
    heads = ("", "images", "trained an epoch", "fewest of a class", "most of a class")
    rows = [
        (
            split,
            f"{counts.images:,}",
            f"{epoch[split].trained:,}" if split in epoch else "not said",
            f"{min(counts.by_class):,}",
            f"{max(counts.by_class):,}",
        )
        for split, counts in manifest.ledger.splits.items()
    ]
    lines = [*right_aligned([heads, *rows]), _shape_line(manifest)]
    if copies := copies_text(manifest.ledger):
        lines.append(f"copies:     {copies}")
    return lines


def _shape_line(manifest: ImageManifest) -> str:
    image = manifest.image
    channels = "" if image.channels == 1 else f", {image.channels} channels"
    return f"images:     {image.width} x {image.height}{channels}, {len(image.class_names):,} classes"


def copies_text(ledger: ImageLedger) -> str:
    """How many images are copies, and what becomes of them; empty where there are none."""
    if not ledger.copies:
        return ""
    fate = "dropped" if ledger.dropped else "kept; prepare.duplicates = 'drop' leaves them out"
    contradicting = (
        f", {ledger.contradicting_copies:,} of another class than the first" if ledger.contradicting_copies else ""
    )
    return f"{plural(ledger.copies, 'image')}{contradicting} ({fate})"


def image_ledger_lines(books: Books, manifest: ImageManifest, title: str) -> Iterator[str]:
    """All of it: the source, what lies in which split, class by class, and what an epoch does with it."""
    ledger = manifest.ledger
    yield f"{title}: {ledger.files_used:,} of {plural(ledger.files_found, 'file')} used"
    yield ""
    yield from right_aligned(list(_rows(books, manifest)))
    yield ""
    yield _shape_line(manifest)
    yield "lost:       nothing"
    if copies := copies_text(ledger):
        yield f"copies:     {copies}"


def _rows(books: Books, manifest: ImageManifest) -> Iterator[tuple[str, ...]]:
    """A column for the source, for each split, and for what was left out."""
    ledger, names = manifest.ledger, manifest.image.class_names
    parts = {**ledger.splits, **{f"{reason}s": counts for reason, counts in ledger.dropped.items()}}
    yield "", "source", *parts
    yield "images", f"{ledger.images:,}", *(f"{one.images:,}" for one in parts.values())
    for place, name in enumerate(names if len(names) <= MOST_CLASSES else ()):
        counts = [one.by_class[place] for one in parts.values()]
        yield f"  {name}", f"{sum(counts):,}", *(f"{count:,}" for count in counts)
    if books.epoch:
        epoch = [books.epoch.get(name) for name in parts]
        yield "one epoch:", *[""] * (len(parts) + 1)
        yield "  trained", "", *("" if fates is None else f"{fates.trained:,}" for fates in epoch)
        yield "  share trained", "", *("" if fates is None else trained_share(fates) for fates in epoch)
