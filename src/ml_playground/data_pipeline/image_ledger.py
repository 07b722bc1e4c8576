"""Where every image of a source went; the counts must balance."""

from collections.abc import Mapping

from pydantic import Field

from ml_playground.configuration.base import CountOrZero, Strict
from ml_playground.data_pipeline.ledger import DUPLICATE, SourceLedger


class ImageCounts(Strict):
    """What one split holds."""

    by_class: tuple[CountOrZero, ...]
    """Images of each class, in the order of the labels."""

    @property
    def images(self) -> int:
        """All of them."""
        return sum(self.by_class)


class ImageLedger(SourceLedger):
    """The books of a data set of images: each is in a split, or dropped."""

    images: CountOrZero
    """Of the source."""
    copies: CountOrZero
    """Images with the very pixels of an earlier one, counted whether they were dropped or not."""
    contradicting_copies: CountOrZero
    """Those among them that have another class than the first one."""
    splits: Mapping[str, ImageCounts]
    dropped: Mapping[str, ImageCounts] = Field(default_factory=dict)
    """What the settings leave out, by reason; it is in no split."""


def image_imbalances(ledger: ImageLedger) -> list[str]:
    """Every count that does not add up, in words; none when all is well."""
    parts = [*ledger.splits.values(), *ledger.dropped.values()]
    pairs = {
        "files found and files used or skipped": (
            ledger.files_found,
            ledger.files_used + sum(ledger.files_skipped.values()),
        ),
        "images of the source and of its parts": (ledger.images, sum(one.images for one in parts)),
    }
    if DUPLICATE in ledger.dropped:
        pairs["copies found and dropped"] = ledger.copies, ledger.dropped[DUPLICATE].images
    found = [f"{what} differ: {left} and {right}" for what, (left, right) in pairs.items() if left != right]
    if ledger.contradicting_copies > ledger.copies:
        found.append(f"{ledger.contradicting_copies} of {ledger.copies} copies contradict")
    return found
