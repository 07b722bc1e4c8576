"""Images in idx files: read as they are, plain or packed, by path or fetched; refused where a head lies."""

import gzip
import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.data_pipeline.settings import Mnist
from ml_playground.data_pipeline.sources.mnist import NAMES, URL, IdxImages, build
from tests.fakes.image_files import TEST, drawn, idx_bytes, write_part
from tests.fakes.local_fetch import LocalFetch


def source_of(folder: Path, **more: object) -> IdxImages:
    """The files of a folder."""
    return build(Mnist.model_validate({"path": folder, **more}), Deps())


@given(count=st.integers(1, 9), seed=st.integers(0, 99), packed=st.booleans())
def test_images_of_any_file_come_as_they_were_written(tmp_path: Path, count: int, seed: int, packed: bool) -> None:
    """Packed or not, in their order, with their labels and a name that stays."""
    pixels, labels = drawn(count, seed=seed)
    folder = write_part(tmp_path / f"{count}-{seed}-{packed}", pixels, labels, packed=packed)
    found = list(source_of(folder).images())
    assert np.array_equal(np.stack([image.pixels for image in found]), pixels[:, None])
    assert [image.label for image in found] == labels.tolist()
    assert [image.id for image in found] == [f"train/{number:05d}" for number in range(count)]


def test_images_of_the_test_part_follow_and_say_so(tmp_path: Path) -> None:
    """The data set's own test is nobody's validation."""
    write_part(tmp_path, *drawn(4))
    write_part(tmp_path, *drawn(3, seed=1), part=TEST)
    assert [(image.part, image.id) for image in source_of(tmp_path, max_images=2).images()] == [
        ("train", "train/00000"),
        ("train", "train/00001"),
        ("test", "test/00000"),
        ("test", "test/00001"),
    ]


def head(*sizes: int) -> bytes:
    """Of an idx file that promises so much."""
    return bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)


LIES = {
    "another format": (
        b"\x89PNG....",
        "begins with 89504e47, not with 00000803 as an idx file of bytes in 3 dimensions does",
    ),
    "nothing": (b"", "begins with nothing"),
    "floats": (bytes([0, 0, 0x0D, 3]) + bytes(12), "begins with 00000d03"),
    "a short head": (head(4, 6, 6)[:9], "says that it holds 4 bytes"),
    "endless images": (head(0xFFFFFFFF, 4096, 4096), "says that it holds 4294967295 x 4096 x 4096 bytes; at most"),
    "a side too long": (
        head(1, 4097, 1),
        "says that it holds 1 x 4097 x 1 bytes; at most 17179869184 are read, in images of at most 4096 x 4096",
    ),
    "no image": (head(0, 6, 6), "says that it holds 0 x 6 x 6 bytes; .* and at least one"),
    "too few bytes": (head(4, 6, 6) + bytes(143), "has 159 bytes, but 4 x 6 x 6 numbers and their head take 160"),
    "too many bytes": (head(4, 6, 6) + bytes(145), "has 161 bytes"),
}


@pytest.mark.parametrize("name", LIES)
def test_images_of_a_file_whose_head_lies_are_refused_without_memory_of_that_size(name: str, tmp_path: Path) -> None:
    """Before a byte of what it promises is allocated; the message names the file."""
    content, message = LIES[name]
    write_part(tmp_path, *drawn(4))
    (tmp_path / NAMES[0]).write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"{NAMES[0]} {message}"):
            list(source_of(tmp_path).images())
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-9], r"damaged: .*; fetch or copy it again"),
        (lambda content: content[:30] + b"\xff" * 20 + content[50:], r"damaged: .*; fetch or copy it again"),
        (lambda content: gzip.compress(gzip.decompress(content)[:-1]), "ends in the midst of item 4 of 4"),
        (
            lambda content: gzip.compress(gzip.decompress(content) + b"x"),
            "goes on after the 4 items that its head promises",
        ),
    ],
)
def test_images_of_a_damaged_packed_file_are_refused(tmp_path: Path, change: object, message: str) -> None:
    """What is packed shows its length only when it has been read."""
    write_part(tmp_path, *drawn(4), packed=True)
    path = tmp_path / f"{NAMES[0]}.gz"
    assert callable(change)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=rf"{path.name} (is )?{message}"):
        list(source_of(tmp_path).images())


def test_images_and_labels_of_different_numbers_are_refused(tmp_path: Path) -> None:
    """Whoever mixes two data sets would train on nonsense."""
    write_part(tmp_path, *drawn(4))
    (tmp_path / NAMES[1]).write_bytes(idx_bytes(np.zeros(5, dtype=np.uint8)))
    with pytest.raises(DataError, match="holds 4 images, but .* 5 labels; they do not belong together"):
        list(source_of(tmp_path).images())


def test_folder_without_a_file_names_what_is_missing(tmp_path: Path) -> None:
    """And a test part whose other half is gone is no test part."""
    write_part(tmp_path, *drawn(4))
    write_part(tmp_path, *drawn(4), part=TEST)
    (tmp_path / NAMES[3]).unlink()
    with pytest.raises(DataError, match=rf"lacks {NAMES[3]} .*prepare\.source\.path"):
        source_of(tmp_path).provenance()


def pages_of(folder: Path, url: str) -> dict[str, bytes]:
    """Four packed files at their addresses."""
    write_part(folder, *drawn(4), packed=True)
    write_part(folder, *drawn(3, seed=1), part=TEST, packed=True)
    return {f"{url}/{name}.gz": (folder / f"{name}.gz").read_bytes() for name in NAMES}


def test_images_from_an_address_are_fetched_once_and_checked(tmp_path: Path) -> None:
    """With hashes nothing else is taken for them."""
    pages = pages_of(tmp_path, "https://there/set")
    hashes = tuple(hashlib.sha256(content).hexdigest() for content in pages.values())
    fetch = LocalFetch(pages)
    settings = Mnist(url="https://there/set/", sha256=hashes)
    source = build(settings, Deps(fetch=fetch))
    assert [file.sha256 for file in source.provenance().files] == list(hashes)
    assert fetch.asked == []
    assert len(list(source.images())) == len(list(source.images())) == 7
    assert [url for url, _ in fetch.asked] == list(pages)
    other = build(settings, Deps(fetch=LocalFetch(dict.fromkeys(pages, b"another page"))))
    assert len(list(other.images())) == 7


def test_images_from_an_address_with_another_content_are_refused(tmp_path: Path) -> None:
    """A page that says `not found` is no data set."""
    pages = pages_of(tmp_path, URL.rstrip("/"))
    source = build(Mnist(), Deps(fetch=LocalFetch(pages)))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is not the expected .*sha256 is 440fcabf"):
        list(source.images())


def test_address_that_does_not_answer_says_how_to_bring_the_files(tmp_path: Path) -> None:
    """By path, and of this kind."""
    source = build(Mnist(), Deps(fetch=LocalFetch({}), sleep=lambda _: None))
    with pytest.raises(DataError, match=r"could not be fetched .*kind=\"mnist\", path=\"FOLDER\""):
        list(source.images())


def test_address_that_is_none_says_how_to_name_a_folder(tmp_path: Path) -> None:
    """Of images, not of a text."""
    with pytest.raises(ConfigError, match=r'is not an http.*kind="mnist", path="FOLDER"'):
        build(Mnist(url=str(tmp_path)), Deps())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "a", "url": "b"}, "two places; remove one of them"),
        ({"sha256": ["0" * 64] * 4}, "sha256 goes with a url, and has four entries"),
        ({"url": "b", "sha256": ["0" * 64]}, r"four entries \(got 1"),
        ({"class_names": ["a", "b", "b"]}, "'b' is the name of two classes; nobody could tell them apart"),
        ({"class_names": ["a", "\x1b[31mb"]}, r"has a control character or a line end in it; .* is one plain line"),
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, object], message: str) -> None:
    """A setting without an effect is a mistake."""
    with pytest.raises(ValueError, match=message):
        Mnist.model_validate(settings, strict=False)
