"""Images on their way to arrays: nothing is lost, every count balances, what cannot be is refused in words."""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.books import open_books
from ml_playground.data_pipeline.image_building import take_census
from ml_playground.data_pipeline.image_dataset import ImageManifest, PreparedImages, open_images
from ml_playground.data_pipeline.image_ledger import ImageCounts, ImageLedger, image_imbalances
from ml_playground.data_pipeline.image_protocol import LabelledImage
from ml_playground.data_pipeline.manifest import account_of, open_prepared
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.sampling.token_windows import build as build_windows
from ml_playground.data_pipeline.settings import ImageBatches, TokenWindows
from ml_playground.data_pipeline.text_dataset import open_text
from ml_playground.data_pipeline.transforms.split import split_of_id, wanted
from tests.fakes.image_files import TEST, drawn, image_settings, prepared_images, write_part
from tests.fakes.prepared_text import prepared_text


def stored(prepared: PreparedImages) -> dict[str, list[tuple[bytes, int]]]:
    """Pixels and label of every image, by split."""
    return {
        split: [
            (pixels.tobytes(), int(label))
            for pixels, label in zip(prepared.images(split), prepared.labels(split), strict=True)
        ]
        for split in prepared.manifest.splits
    }


def missing_split(count: int, val_fraction: float, test_fraction: float) -> bool:
    """Whether the hashes of so many names leave a part empty."""
    names = [f"train/{number:05d}" for number in range(count)]
    found = {split_of_id(name, val_fraction, test_fraction) for name in names}
    return found != set(wanted(test_fraction))


@given(
    count=st.integers(6, 40),
    seed=st.integers(0, 99),
    how=st.sampled_from(["position", "document", "hash"]),
    test=st.sampled_from([0.0, 0.25]),
)
def test_prepare_any_images_gives_each_pixel_back_once(
    tmp_path_factory: pytest.TempPathFactory, count: int, seed: int, how: str, test: float
) -> None:
    """Every image is in one split, with its own label, in its order; and the books say so."""
    folder = tmp_path_factory.mktemp("images")
    pixels, labels = drawn(count, seed=seed)
    fractions = {"val_fraction": 0.25, "test_fraction": test}
    if how == "hash" and missing_split(count, **fractions):
        with pytest.raises(DataError, match="puts none of the"):
            prepared_images(folder, pixels, labels, split_by=how, **fractions)
        return
    prepared = prepared_images(folder, pixels, labels, split_by=how, **fractions)
    parts = stored(prepared)
    given_images = [(image.tobytes(), int(label)) for image, label in zip(pixels, labels, strict=True)]
    assert sorted(image for part in parts.values() for image in part) == sorted(given_images)
    for part in parts.values():
        places = [given_images.index(image) for image in part]
        assert places == sorted(places)
    if how != "hash":
        assert list(chain.from_iterable(parts.values())) == given_images
    sizes = {split: len(part) for split, part in parts.items()}
    books = open_books(prepared.folder, ImageBatches(micro_batch_rows=4))
    assert {split: fates.trained for split, fates in books.epoch.items()} == sizes == prepared.manifest.sizes
    assert prepared.manifest.ledger.images == count


def test_prepare_again_uses_what_is_there_and_notices_another_source(tmp_path: Path) -> None:
    """As for text."""
    first = prepared_images(tmp_path, *drawn(12))
    again = prepare(image_settings(tmp_path), Deps())
    assert again.reused
    assert again.manifest == first.manifest
    write_part(tmp_path, *drawn(12, seed=1))
    with pytest.raises(DataError, match=r"The source changed .*train-images-idx3-ubyte changed"):
        prepare(image_settings(tmp_path), Deps())
    anew = prepare(image_settings(tmp_path), Deps(), fresh=True)
    assert anew.fingerprint != first.fingerprint
    assert anew.set_aside is not None


def test_prepare_normalises_by_the_training_part_alone(tmp_path: Path) -> None:
    """What is validated on does not tell the model of itself."""
    pixels, labels = drawn(20)
    pixels[15:] = 255
    prepared = prepared_images(tmp_path, pixels, labels, val_fraction=0.25)
    image = prepared.manifest.image
    train = pixels[:15].astype(np.float64) / 255
    assert image.mean == pytest.approx([train.mean()], rel=1e-12)
    assert image.std == pytest.approx([train.std()], rel=1e-9)


def test_prepare_images_without_contrast_have_a_deviation_of_one(tmp_path: Path) -> None:
    """Nothing is divided by nothing."""
    pixels, labels = drawn(8)
    pixels[:] = 7
    assert prepared_images(tmp_path, pixels, labels, val_fraction=0.25).manifest.image.std == (1.0,)


def test_prepare_counts_copies_and_drops_them_where_asked(tmp_path: Path) -> None:
    """Then the data set is, to the pixel, that of the images without them; copies of another class are told apart."""
    pixels, labels = drawn(12)
    pixels[5], pixels[9], labels[9] = pixels[2], pixels[3], (labels[3] + 1) % 3
    kept = prepared_images(tmp_path / "a", pixels, labels, val_fraction=0.25)
    assert (kept.manifest.ledger.copies, kept.manifest.ledger.contradicting_copies) == (2, 1)
    assert kept.manifest.ledger.dropped == {}
    dropped = prepared_images(tmp_path / "b", pixels, labels, val_fraction=0.25, duplicates="drop")
    without = [number for number in range(12) if number not in (5, 9)]
    alone = prepared_images(tmp_path / "c", pixels[without], labels[without], val_fraction=0.25)
    assert stored(dropped) == stored(alone)
    assert dropped.manifest.ledger.dropped["duplicate"].images == 2
    assert dropped.manifest.ledger.images == 12


def test_prepare_source_with_a_test_part_keeps_it_as_it_is(tmp_path: Path) -> None:
    """Its images are in no other part, and no other test is asked for."""
    pixels, labels = drawn(5, seed=3)
    write_part(tmp_path, pixels, labels, part=TEST)
    prepared = prepared_images(tmp_path, *drawn(12), val_fraction=0.25)
    assert prepared.manifest.sizes == {"train": 9, "val": 3, "test": 5}
    assert np.array_equal(prepared.images("test")[:, 0], pixels)
    with pytest.raises(DataError, match=r"brings a test part of its own, 5 images, and prepare\.test_fraction = 0\.2"):
        prepared_images(tmp_path, *drawn(12), test_fraction=0.2)


def test_prepare_test_part_of_copies_alone_is_refused_where_they_are_dropped(tmp_path: Path) -> None:
    """No fraction and no other way to split would help."""
    pixels, labels = drawn(12)
    write_part(tmp_path, pixels[:5], labels[:5], part=TEST)
    assert prepared_images(tmp_path, pixels, labels, val_fraction=0.25).manifest.sizes["test"] == 5
    with pytest.raises(DataError, match=r"own test part is a copy .* prepare\.duplicates = 'drop' .* set it to 'keep'"):
        prepared_images(tmp_path, pixels, labels, val_fraction=0.25, duplicates="drop")


@pytest.mark.parametrize(
    ("count", "classes", "settings", "message"),
    [
        (1, 2, {}, "The source has 1 image, too few for train, val .*give it more images"),
        (6, 1, {}, "All images are of one class; there is nothing to tell apart"),
        (6, 3, {"split_by": "hash", "val_fraction": 0.001}, "'hash' puts none of the 6 images into 'val'"),
        (
            6,
            3,
            {"source": {"class_names": ["a", "b"]}},
            r"A label is 2, but there are 2 names of classes \(a, b, \.\.\.\)",
        ),
    ],
)
def test_prepare_images_that_cannot_be_trained_on_says_why(
    tmp_path: Path, count: int, classes: int, settings: dict[str, Any], message: str
) -> None:
    """And what to do."""
    pixels, labels = drawn(count, classes)
    if count == 1:
        labels[:] = 1
    with pytest.raises(DataError, match=message):
        prepared_images(tmp_path, pixels, labels, **settings)


def test_prepare_names_of_classes_are_kept(tmp_path: Path) -> None:
    """They are what people read."""
    prepared = prepared_images(tmp_path, *drawn(9), source={"class_names": ["ant", "bee", "cat"]})
    assert prepared.manifest.image.class_names == ("ant", "bee", "cat")


def test_take_census_of_unlike_shapes_names_the_image() -> None:
    """A batch has one shape."""
    images = [LabelledImage(f"{side}", 0, np.zeros((1, side, 4), dtype=np.uint8)) for side in (4, 5)]
    with pytest.raises(DataError, match=r"Image 5 has the shape \(1, 5, 4\), those before it \(1, 4, 4\)"):
        take_census(iter(images), drop_copies=False)
    with pytest.raises(DataError, match="no images of channels, rows and columns"):
        take_census(iter([]), drop_copies=False)


def test_imbalances_each_count_that_does_not_add_up_is_named() -> None:
    """A loss that nobody counted is a fault of the program."""
    ledger = ImageLedger(
        files_found=2,
        files_used=1,
        files_skipped={},
        images=7,
        copies=1,
        contradicting_copies=2,
        splits={"train": ImageCounts(by_class=(3, 3))},
        dropped={"duplicate": ImageCounts(by_class=(2, 0))},
    )
    assert image_imbalances(ledger) == [
        "files found and files used or skipped differ: 2 and 1",
        "images of the source and of its parts differ: 7 and 8",
        "copies found and dropped differ: 1 and 2",
        "2 of 1 copies contradict",
    ]


Content = dict[str, Any]


def resealed(prepared: PreparedImages, change: Callable[[Content], object]) -> None:
    """Change the manifest, and make its fingerprint true again, as whoever made the folder could."""
    path = prepared.folder / "dataset.json"
    content: Content = json.loads(path.read_text())
    for name in content["files"]:
        content["files"][name] = account_of(prepared.folder / name).model_dump()
    change(content)
    path.write_text(ImageManifest.model_validate_json(json.dumps(content)).sealed().model_dump_json())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["image"].update(height=7), "so train.images would have .* bytes, not"),
        (lambda c: c["files"].pop("val.labels"), "files lacks val.labels"),
        (lambda c: c["image"].update(mean=[0.5]), "images/images.json does not say of the images what this file says"),
        (lambda c: c["ledger"]["splits"]["val"].update(by_class=[1, 2]), "val counts 2 classes of 3"),
        (lambda c: c["ledger"].update(images=1), "images of the source and of its parts differ"),
        (lambda c: c["files"].update({"../x": c["files"]["val.labels"]}), "no plain name inside the folder"),
    ],
)
def test_open_manifest_that_promises_what_is_not_there_is_refused(
    tmp_path: Path, change: Callable[[Content], object], message: str
) -> None:
    """Its hashes fit; what it says is looked at before it is believed."""
    prepared = prepared_images(tmp_path, *drawn(12))
    resealed(prepared, lambda _: None)
    assert open_images(prepared.folder).manifest == prepared.manifest
    resealed(prepared, change)
    with pytest.raises(DataError, match=f"contradicts itself: .*{message}.*mlp prepare EXPERIMENT --fresh"):
        open_prepared(prepared.folder)


def test_open_label_beyond_the_classes_is_named_with_its_place(tmp_path: Path) -> None:
    """On a GPU it would end the process without a word."""
    prepared = prepared_images(tmp_path, *drawn(12))
    path = prepared.folder / "train.labels"
    labels = np.fromfile(path, dtype="<u2")
    labels[4] = 3
    labels.tofile(path)
    resealed(prepared, lambda _: None)
    with pytest.raises(DataError, match=r"train\.labels does not fit .*image 4 has label 3, the classes end at 2"):
        open_prepared(prepared.folder)


def test_open_what_holds_something_else_says_so(tmp_path: Path) -> None:
    """A kind of data reads one kind of data set; settings see to it, but a folder may be put in another's place."""
    images = prepared_images(tmp_path / "images", *drawn(12))
    text = prepared_text(tmp_path, "to be or not to be, that is the question. " * 9)
    with pytest.raises(DataError, match="holds no text; choose a kind of"):
        build_windows(TokenWindows(), images.folder, seed=1)
    with pytest.raises(DataError, match="holds no images; choose a kind of"):
        open_images(text.folder)
    assert open_text(text.folder).manifest == text.manifest


def test_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    """And how to get one."""
    prepared = prepared_images(tmp_path, *drawn(12))
    with pytest.raises(
        DataError, match=r"has no split 'test' \(it has: train, val\); to have one, .*prepare\.test_fraction=0\.1"
    ):
        prepared.labels("test")
