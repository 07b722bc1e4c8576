"""MNIST, and what comes in its form: idx files of images and labels for training and for a test, given by path or fetched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.image_protocol import LabelledImage
from ml_playground.data_pipeline.settings import Mnist, UrlText
from ml_playground.data_pipeline.source_protocol import Provenance, SourceFile
from ml_playground.data_pipeline.sources.idx_file import items, opened
from ml_playground.data_pipeline.sources.text_pieces import file_account
from ml_playground.data_pipeline.sources.url_text import UrlSource

URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
"""Of the files packed with gzip, in the order of their names."""
BY_PATH = '--set \'prepare.source={kind="mnist", path="FOLDER"}\''


@dataclass(frozen=True, slots=True)
class Part:
    """Images and their labels."""

    name: Literal["train", "test"]
    images: Path
    labels: Path


class IdxImages:
    """The training images, then those of the test, each in the order of its file."""

    def __init__(self, settings: Mnist, deps: Deps) -> None:
        self._settings = settings
        self._fetched = None if settings.path is not None else _downloads(settings, deps)

    def images(self) -> Iterator[LabelledImage]:
        """Part and place as the id: `train/00042`."""
        for part in self._parts():
            yield from islice(_images(part), self._settings.max_images)

    def class_names(self) -> Sequence[str] | None:
        """As the settings say."""
        return self._settings.class_names or None

    def provenance(self) -> Provenance:
        """Names and hashes of the files."""
        if self._fetched is not None:
            accounts = [account for source in self._fetched for account in source.provenance().files]
        else:
            files = [file for part in self._parts() for file in (part.images, part.labels)]
            accounts: list[SourceFile] = [file_account(file, file.name) for file in files]
        return Provenance(kind=self._settings.kind, files=tuple(accounts))

    def fetch_anew(self) -> None:
        """Fetch again what no hash vouches for."""
        for source in self._fetched or ():
            source.fetch_anew()

    def _parts(self) -> list[Part]:
        if self._fetched is not None:
            files = [source.files()[0].path for source in self._fetched]
            return [Part("train", *files[:2]), Part("test", *files[2:])]
        folder = self._settings.path or Path()
        found = [_file_of(folder, name) for name in NAMES]
        images, labels, test_images, test_labels = found
        if images is None or labels is None or (test_images is None) != (test_labels is None):
            missing = [name for name, file in zip(NAMES, found, strict=True) if file is None]
            raise DataError(
                f"{folder} lacks {' and '.join(missing)} (each may end in .gz; the two of t10k may be missing together); "
                "put them there, or name another folder in prepare.source.path."
            )
        parts = [Part("train", images, labels)]
        return parts if test_images is None or test_labels is None else [*parts, Part("test", test_images, test_labels)]


def _downloads(settings: Mnist, deps: Deps) -> list[UrlSource]:
    """The four files at their addresses; nothing is fetched before it is read."""
    base, hashes = (URL, SHA256) if settings.url is None else (settings.url, settings.sha256 or (None,) * len(NAMES))
    return [
        UrlSource(UrlText(url=f"{base.rstrip('/')}/{name}.gz", sha256=sha256), deps, by_path=BY_PATH)
        for name, sha256 in zip(NAMES, hashes, strict=True)
    ]


def _file_of(folder: Path, name: str) -> Path | None:
    """The file of this name in a folder, plain or packed, with a dash or a dot before idx."""
    names = [f"{stem}{ending}" for stem in (name, name.replace("-idx", ".idx")) for ending in ("", ".gz")]
    return next((folder / one for one in names if (folder / one).is_file()), None)


def _images(part: Part) -> Iterator[LabelledImage]:
    """The images of a part, one at a time.

    Raises:
        DataError: The files do not belong together, or are damaged.
    """
    with opened(part.images, 3) as (sizes, images), opened(part.labels, 1) as (many, labels):
        count, height, width = sizes
        if many[0] != count:
            raise DataError(
                f"{part.images} holds {count} images, but {part.labels} {many[0]} labels; they do not belong together."
            )
        pairs = zip(
            items(part.images, images, count, height * width), items(part.labels, labels, count, 1), strict=True
        )
        for number, (content, label) in enumerate(pairs):
            pixels = np.frombuffer(content, dtype=np.uint8).reshape(1, height, width)
            yield LabelledImage(f"{part.name}/{number:05d}", label[0], pixels, part.name)


def build(settings: Mnist, deps: Deps) -> IdxImages:
    """The source; nothing is fetched before it is read."""
    return IdxImages(settings, deps)
