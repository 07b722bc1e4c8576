"""Making a data set of images: count them, find copies, deal them out to the splits, write arrays, describe. C, H, W: their shape."""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_playground.configuration.models import PrepareSettings
from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import DataError
from ml_playground.core.image_facts import FOLDER, NAME, ImageFacts
from ml_playground.data_pipeline.image_dataset import ImageManifest
from ml_playground.data_pipeline.image_ledger import ImageCounts, ImageLedger, image_imbalances
from ml_playground.data_pipeline.image_protocol import ImageSource, LabelledImage
from ml_playground.data_pipeline.ledger import DUPLICATE
from ml_playground.data_pipeline.manifest import MANIFEST_NAME, account_of
from ml_playground.data_pipeline.progress import Phase, PrepareProgress, Report
from ml_playground.data_pipeline.source_protocol import changed_meanwhile, changes
from ml_playground.data_pipeline.storage.array_file import LABEL_TYPE, PIXEL_TYPE, ArrayWriter
from ml_playground.data_pipeline.storage.token_file import FileAccount
from ml_playground.data_pipeline.survey import DIGEST_BYTES, originals_of
from ml_playground.data_pipeline.transforms.split import SPLITS, image_ends, split_of_id, wanted

TOLD_EVERY = 1000
"""Images between two words of progress."""
FULL = 255
"""The largest pixel, which stands for 1."""


@dataclass(frozen=True, slots=True)
class Census:
    """What one pass over the source counted."""

    shape: tuple[int, int, int]
    labels: "array[int]"
    copies: frozenset[int]
    """Numbers of the images whose pixels are those of an earlier one."""
    contradicting: int
    """Copies of another class than the first one."""
    tested: int
    """Images that the source keeps for a final test."""
    dealt: int
    """Images to be dealt out: those that are neither for the test nor left out as copies."""


Deal = Callable[[LabelledImage, int], str]
"""The split of an image; the number counts those that are dealt out."""


def build_images(
    folder: Path, settings: PrepareSettings, source: ImageSource, now: datetime, report: Report
) -> ImageManifest:
    """Fill an empty folder with images; what it raises is what `prepare` raises."""
    report(PrepareProgress("fetching"))
    before = source.provenance()
    census = take_census(_watched(source, "counting", None, report), drop_copies=settings.duplicates == "drop")
    names = _class_names(source, census)
    deal = _deal(settings, census)
    splits = SPLITS if census.tested else wanted(settings.test_fraction)
    store = _Store(folder, splits, len(names), census.shape[0])
    with store:
        dealt = 0
        for number, image in enumerate(_watched(source, "storing", len(census.labels), report)):
            if number >= len(census.labels) or image.label != census.labels[number]:
                raise changed_meanwhile(f"image {image.id} was not there before")
            dropped = settings.duplicates == "drop" and number in census.copies
            own_test = image.part == "test"
            store.add(image, DUPLICATE if dropped else "test" if own_test else deal(image, dealt))
            dealt += not (dropped or own_test)
    report(PrepareProgress("checking"))
    after = source.provenance()
    if before.content != after.content:
        raise changed_meanwhile(changes(before, after))
    ledger = ImageLedger(
        files_found=len(after.files) + len(after.skipped),
        files_used=len(after.files),
        files_skipped={},
        images=len(census.labels),
        copies=len(census.copies),
        contradicting_copies=census.contradicting,
        splits=store.counts(splits),
        dropped=store.counts([DUPLICATE]) if settings.duplicates == "drop" and census.copies else {},
    )
    _check(ledger, settings)
    facts = store.facts(census.shape, names)
    write_file(folder / FOLDER / NAME, facts.text)
    manifest = ImageManifest(
        created_at=now,
        prepare=settings.model_dump(mode="json"),
        source=after,
        image=facts,
        ledger=ledger,
        files=store.accounts() | {f"{FOLDER}/{NAME}": account_of(folder / FOLDER / NAME)},
    ).sealed()
    write_file(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def take_census(images: Iterator[LabelledImage], *, drop_copies: bool) -> Census:
    """Count images, which must all be of one shape; keeps 20 bytes of each.

    Raises:
        DataError: There are none, or their shapes differ.
    """
    shape: tuple[int, ...] | None = None
    labels: array[int] = array("H")
    tests = bytearray()
    prints = bytearray()
    for image in images:
        shape = shape or image.pixels.shape
        if image.pixels.shape != shape:
            raise DataError(
                f"Image {image.id} has the shape {image.pixels.shape}, those before it {shape}; all must have one shape."
            )
        labels.append(image.label)
        tests.append(image.part == "test")
        prints += hashlib.blake2b(image.pixels.tobytes(), digest_size=DIGEST_BYTES).digest()
    if shape is None or len(shape) != 3:  # noqa: PLR2004 - channels, rows, columns
        raise DataError(f"The source gives no images of channels, rows and columns (the shape is {shape}).")
    originals = originals_of(array("Q", bytes(8 * len(labels))), prints)
    copies = np.flatnonzero(originals != np.arange(len(originals)))
    left_out = np.zeros(len(labels), dtype=np.bool_)
    if drop_copies:
        left_out[copies] = True
    classes = np.frombuffer(labels, dtype=np.uint16)
    own_tests = np.frombuffer(tests, dtype=np.bool_)
    return Census(
        shape=(shape[0], shape[1], shape[2]),
        labels=labels,
        copies=frozenset(copies.tolist()),
        contradicting=int((classes[copies] != classes[originals[copies]]).sum()),
        tested=int(own_tests.sum()),
        dealt=int((~own_tests & ~left_out).sum()),
    )


class _Store:
    """The arrays of all splits as they are written, and the sums that the training images are normalised by."""

    def __init__(self, folder: Path, splits: tuple[str, ...], classes: int, channels: int) -> None:
        self._images = {split: ArrayWriter(folder / f"{split}.images", PIXEL_TYPE) for split in splits}
        self._labels = {split: ArrayWriter(folder / f"{split}.labels", LABEL_TYPE) for split in splits}
        self._classes = classes
        self._counts: dict[str, NDArray[np.int64]] = {}
        # Whole numbers, so that the sums are exact in whatever order: 2^63 is far beyond 65,025 times all pixels.
        self._sums = np.zeros((2, channels), dtype=np.int64)

    def add(self, image: LabelledImage, place: str) -> None:
        """Write an image into a split, or only count it."""
        counts = self._counts.setdefault(place, np.zeros(self._classes, dtype=np.int64))
        counts[image.label] += 1
        if place in self._images:
            self._images[place].add(image.pixels)
            self._labels[place].add(np.array([image.label]))
        if place == "train":
            values = image.pixels.reshape(len(image.pixels), -1).astype(np.int64)
            self._sums += np.stack([values.sum(1), (values * values).sum(1)])

    def counts(self, places: tuple[str, ...] | list[str]) -> Mapping[str, ImageCounts]:
        """Images of each class, by where they went."""
        nothing = np.zeros(self._classes, dtype=np.int64)
        return {place: ImageCounts(by_class=tuple(self._counts.get(place, nothing).tolist())) for place in places}

    def facts(self, shape: tuple[int, int, int], names: tuple[str, ...]) -> ImageFacts:
        """What is known of all images."""
        channels, height, width = shape
        pixels = int(self._counts["train"].sum()) * height * width
        mean = self._sums[0] / (pixels * FULL)
        variance = self._sums[1] / (pixels * FULL**2) - mean**2
        # Rounding may leave less than nothing of a variance of nothing.
        std = np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 1e-12)), 1.0)  # noqa: PLR2004
        return ImageFacts(
            channels=channels,
            height=height,
            width=width,
            class_names=names,
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
        )

    def accounts(self) -> dict[str, FileAccount]:
        """Size and hash of each file, by name; after closing."""
        writers = {f"{split}.images": writer for split, writer in self._images.items()}
        writers |= {f"{split}.labels": writer for split, writer in self._labels.items()}
        return {name: writer.account() for name, writer in writers.items()}

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        with ExitStack() as files:
            for writer in [*self._images.values(), *self._labels.values()]:
                files.callback(writer.close)


def _watched(source: ImageSource, phase: Phase, total: int | None, report: Report) -> Iterator[LabelledImage]:
    for number, image in enumerate(source.images()):
        yield image
        if number % TOLD_EVERY == 0:
            report(PrepareProgress(phase, number, total))


def _class_names(source: ImageSource, census: Census) -> tuple[str, ...]:
    """In the order of the labels.

    Raises:
        DataError: A label has no name, or there is only one class.
    """
    highest = max(census.labels)
    given = source.class_names()
    names = tuple(map(str, range(highest + 1))) if given is None else tuple(given)
    if highest >= len(names):
        raise DataError(
            f"A label is {highest}, but there are {len(names)} names of classes ({', '.join(names[:5])}, ...), which begin with "
            "label 0; name all of them in prepare.source.class_names."
        )
    if len(names) < 2:  # noqa: PLR2004
        raise DataError(
            "All images are of one class; there is nothing to tell apart. Give the source images of others."
        )
    return names


def _deal(settings: PrepareSettings, census: Census) -> Deal:
    """How images are dealt out that are not the source's own test part.

    Raises:
        DataError: There are too few, or two test parts are asked for.
    """
    val, test = settings.val_fraction, settings.test_fraction
    if census.tested and test:
        raise DataError(
            f"The source brings a test part of its own, {census.tested} images, and prepare.test_fraction = {test:g} asks for "
            "another one; set it to 0."
        )
    if settings.split_by == "hash":
        return lambda image, _number: split_of_id(image.id, val, test)
    ends = image_ends(census.dealt, val, test)
    return lambda _image, number: next(split for split, end in zip(SPLITS, ends, strict=True) if number < end)


def _check(ledger: ImageLedger, settings: PrepareSettings) -> None:
    """Refuse books that do not balance, and splits without an image.

    Raises:
        DataError: A split is empty.
        RuntimeError: Images were lost.
    """
    if found := image_imbalances(ledger):
        raise RuntimeError(f"the ledger does not balance: {'; '.join(found)}")
    empty = [split for split, counts in ledger.splits.items() if not counts.images]
    if "test" in empty and not settings.test_fraction:
        raise DataError(
            "Every image of the source's own test part is a copy of an earlier one, and prepare.duplicates = 'drop' leaves them "
            "all out; set it to 'keep', or give the source a test part of its own images."
        )
    if empty:
        raise DataError(
            f"prepare.split_by = {settings.split_by!r} puts none of the {ledger.images} images into {empty[0]!r}; raise that "
            "split's fraction, give the source more images, or set prepare.split_by = 'position'."
        )
