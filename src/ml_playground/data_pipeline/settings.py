"""Settings of sources and of the ways batches are cut; free of torch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from ml_playground.configuration.base import Component, ConfigPath, Count, CountOrZero, Modality
from ml_playground.core.image_facts import ClassName, plain_and_different

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class TextFile(Component):
    """Text files on this machine; each file is a document."""

    kind: Literal["text_file"] = "text_file"
    """Text files."""
    path: ConfigPath
    """A file, a folder (all of it that matches `pattern`), or a glob."""
    pattern: str = "**/*.txt"
    """Which files of a folder."""
    encoding: str = "utf-8"
    """How the bytes are read; a byte that does not fit is an error, never replaced in silence."""


class UrlText(Component):
    """One text, fetched once and kept in the cache."""

    kind: Literal["url_text"] = "url_text"
    """A text by its address."""
    url: str
    """http, https or file address."""
    sha256: Sha256 | None = None
    """What the bytes must hash to; without it any answer is taken, and its hash recorded; `prepare --fresh` fetches anew."""
    encoding: str = "utf-8"
    """How the bytes are read."""


class PythonStdlib(Component):
    """The sources of the running interpreter's standard library, without tests and site-packages: text that is always there."""

    kind: Literal["python_stdlib"] = "python_stdlib"
    """The interpreter's own sources."""
    max_files: Count | None = None
    """Only the first files in the order of their names; none: all."""


class PythonDocstrings(Component):
    """Functions of installed packages, each with what its docstring says of it: 24,000 pairs that are always there."""

    modality: ClassVar[Modality | None] = "chats"

    kind: Literal["python_docstrings"] = "python_docstrings"
    """Functions and their descriptions, read from installed packages."""
    packages: tuple[str, ...] = ("torch", "numpy", "sympy", "networkx")
    """Installed packages whose functions are read; nothing of them is imported."""
    standard_library: bool = True
    """The interpreter's own modules, too."""
    question: Annotated[str, StringConstraints(min_length=1)] = "What does this function do?"
    """What the user asks, above the function."""
    code_characters: CountOrZero = 400
    """Of the code below the signature so many are shown, in whole lines; 0: the signature alone."""
    most_answer_characters: Count = 300
    """Functions whose first paragraph is longer are left out."""
    max_chats: Count | None = None
    """Only the first so many; none: all."""


class Digits(Component):
    """scikit-learn's handwritten digits: 1,797 images of 8 x 8, always there with the extra `vision`."""

    modality: ClassVar[Modality | None] = "images"

    kind: Literal["digits"] = "digits"
    """Handwritten digits, offline."""


class Mnist(Component):
    """MNIST, or what comes in its form: idx files of images and labels, with a test part of their own."""

    modality: ClassVar[Modality | None] = "images"
    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("path", "url"),)

    kind: Literal["mnist"] = "mnist"
    """Images in idx files."""
    path: ConfigPath | None = None
    """A folder with the files under their usual names (train-images-idx3-ubyte, ..., plain or .gz); none: they are fetched."""
    url: str | None = None
    """Address before the names of the .gz files; none, and no path: MNIST's own, checked by known hashes."""
    sha256: tuple[Sha256, ...] = ()
    """With `url`: what train images, train labels, test images, test labels hash to as .gz; empty: any content is taken."""
    class_names: tuple[ClassName, ...] = ()
    """Names of the labels 0, 1, ..., each another one; empty: the labels are their names."""
    max_images: Count | None = None
    """Only the first images of each part; none: all."""

    @field_validator("class_names")
    @classmethod
    def _can_be_told_apart(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return plain_and_different(names)

    @model_validator(mode="after")
    def _hashes_go_with_an_address(self) -> "Mnist":
        if self.path is not None and self.url is not None:
            raise ValueError(f"path = '{self.path}' and url = {self.url!r} are two places; remove one of them")
        if self.sha256 and (self.url is None or len(self.sha256) != 4):  # noqa: PLR2004
            raise ValueError(
                f"sha256 goes with a url, and has four entries (got {len(self.sha256)}, and url = {self.url!r})"
            )
        return self


class TokenWindows(Component):
    """Windows of consecutive tokens, each exactly once an epoch."""

    kind: Literal["token_windows"] = "token_windows"
    """Windows of T + 1 tokens at stride T."""
    sequence_tokens: Annotated[int, Field(ge=1)] = 256
    """T: tokens a batch row holds."""
    micro_batch_rows: Count = 16
    """B: rows the device sees at once."""
    order: Literal["random", "sequential"] = "random"
    """`random`: a keyed permutation of all windows each epoch; `sequential`: as they stand."""


class ExampleRows(Component):
    """What the kinds of data share that cut batches from prepared chats."""

    modality: ClassVar[Modality | None] = "chats"

    sequence_tokens: Annotated[int, Field(ge=1)] = 1024
    """T: tokens a batch row holds; a chat of T + 1 tokens fits, for its last one is only a target."""
    micro_batch_rows: Count = 8
    """B: rows the device sees at once."""
    truncation: Literal["error", "drop", "left", "right", "split"] = "error"
    """Of a chat that is too long: `error` names it, `drop` leaves it out, `left`, `right` cut that side off, `split` makes several rows."""
    order: Literal["random", "sequential"] = "random"
    """`random`: a keyed permutation of all rows each epoch; `sequential`: as they stand."""


class PaddedExamples(ExampleRows):
    """A chat a row, each exactly once an epoch; rows are filled up to the longest of their batch."""

    kind: Literal["padded_examples"] = "padded_examples"
    """A chat a row."""
    padding_multiple: Count | Literal["auto"] = "auto"
    """Rows are as long as the longest of their batch, rounded up to a multiple of this; auto: of T / 8, for eight shapes at most."""


class PackedExamples(ExampleRows):
    """Several chats a row, each exactly once an epoch and read as if it were alone; hardly a position is wasted."""

    packs: ClassVar[bool] = True

    kind: Literal["packed_examples"] = "packed_examples"
    """Rows of T tokens, filled with chats by best fit."""


class PreferencePairs(PaddedExamples):
    """Pairs of answers, both of a pair in one batch, each exactly once an epoch; with what a reference model makes of them."""

    pairs: ClassVar[bool] = True

    kind: Literal["preference_pairs"] = "preference_pairs"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Pairs of answers."""
    reference: ConfigPath
    """The model that is not to be left too far behind, usually the one that training begins with: a folder as the transformers library
    saves it, a run's folder, or a checkpoint's."""
    micro_batch_rows: Count = 4
    """Pairs the device sees at once; a batch has twice as many rows."""
    truncation: Literal["error", "drop", "left", "right"] = "error"  # pyright: ignore[reportIncompatibleVariableOverride]
    """A chat that is too long: `error` names it, `drop` leaves its pair out, `left`, `right` cut off that side."""


class ImageBatches(Component):
    """Images in batches, each exactly once an epoch; normalised by the mean and deviation of the training images."""

    modality: ClassVar[Modality | None] = "images"

    kind: Literal["image_batches"] = "image_batches"
    """Batches of images and their classes."""
    micro_batch_rows: Count = 64
    """B: images the device sees at once."""
    order: Literal["random", "sequential"] = "random"
    """`random`: a keyed permutation of all images each epoch; `sequential`: as they stand."""
    shift_pixels: Annotated[float, Field(ge=0, le=64)] = 0.0
    """Training images are moved by up to so many pixels each way, another way each time; 0 leaves them where they are."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Training images are turned by up to so many degrees, another way each time; 0 leaves them upright."""
