"""The books of a prepared data set: what preparing did with its source, and what each epoch does with the rest. Free of torch."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from ml_playground.configuration import families
from ml_playground.configuration.base import Component
from ml_playground.core.registry import load_object
from ml_playground.core.values import Fates
from ml_playground.data_pipeline.loss_limit import check_epoch
from ml_playground.data_pipeline.manifest import Manifest, read_manifest


@dataclass(frozen=True, slots=True)
class Books:
    """Where all of a text, or of the images, goes."""

    manifest: Manifest
    epoch: Mapping[str, Fates]
    """By split, what one epoch does; empty where no way to cut batches was named."""
    can_split: bool = False
    """Whether that way could make several rows of a chat that is too long, and does not."""

    @property
    def unit(self) -> str:
        """What is counted: token or image."""
        return self.manifest.unit

    def check(self, limit: float) -> None:
        """Refuse to lose more than a share of the text, in preparing or in an epoch.

        Raises:
            DataError: More is lost; says where, and what to do.
        """
        self.manifest.check_losses(limit)
        check_epoch(self.epoch, limit, can_split=self.can_split)

    def as_json(self) -> dict[str, Any]:
        """All counts as JSON values."""
        ledger = self.manifest.books
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
    if data is not None and (path := families.DATA[data.kind_name].fates):
        fates: Callable[[Component, Path], Mapping[str, Fates]] = load_object(path)
        epoch = fates(data, folder)
    books = Books(read_manifest(folder), epoch, data is not None and _can_split(data))
    for split, size in books.manifest.sizes.items():
        if epoch and epoch[split].accounted != size:
            raise RuntimeError(f"the epoch of {split} does not balance: {epoch[split].accounted} of {size}")
    return books


def _can_split(data: Component) -> bool:
    """Whether `truncation` has the value `split` among those that are allowed, and another one now."""
    field = type(data).model_fields.get("truncation")
    now = getattr(data, "truncation", None)
    return field is not None and "split" in get_args(field.annotation) and now != "split"
