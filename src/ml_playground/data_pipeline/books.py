"""The books of a prepared data set: what preparing did with the text, and what each epoch does with its tokens. Free of torch."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ml_playground.configuration import families
from ml_playground.configuration.base import Component
from ml_playground.core.registry import load_object
from ml_playground.core.values import Fates
from ml_playground.data_pipeline.loss_limit import check_epoch, check_ledger
from ml_playground.data_pipeline.manifest import Manifest, read_manifest


@dataclass(frozen=True, slots=True)
class Books:
    """Where all of a text goes."""

    manifest: Manifest
    epoch: Mapping[str, Fates]
    """By split, what one epoch does; empty where no way to cut batches was named."""

    def check(self, limit: float) -> None:
        """Refuse to lose more than a share of the text, in preparing or in an epoch.

        Raises:
            DataError: More is lost; says where, and what to do.
        """
        check_ledger(self.manifest.ledger, limit, self.manifest.prepare.get("split_by", ""))
        check_epoch(self.epoch, limit)

    def as_json(self) -> dict[str, Any]:
        """All counts as JSON values."""
        ledger = self.manifest.ledger
        return {
            "fingerprint": self.manifest.fingerprint,
            "lost_fraction": ledger.lost_fraction(),
            "lost_bytes": ledger.lost_bytes(),
            "ledger": ledger.model_dump(mode="json"),
            "epoch": {split: asdict(fates) for split, fates in self.epoch.items()},
        }


def open_books(folder: Path, data: Component | None = None) -> Books:
    """The books of a data set, with an epoch of `data` among them.

    Raises:
        DataError: It is missing or damaged.
        RuntimeError: The kind of data lost a token itself.
    """
    epoch: Mapping[str, Fates] = {}
    if data is not None:
        fates: Callable[[Component, Path], Mapping[str, Fates]] = load_object(families.FATES[data.kind_name])
        epoch = fates(data, folder)
    books = Books(read_manifest(folder), epoch)
    for split, counts in books.manifest.ledger.splits.items():
        if epoch and epoch[split].accounted != counts.tokens:
            raise RuntimeError(
                f"the epoch of {split} does not balance: {epoch[split].accounted} of {counts.tokens} tokens"
            )
    return books
