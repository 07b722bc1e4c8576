"""`images.json`: what a data set of images and each checkpoint trained on it know of them: shape, classes, and how pixels become inputs."""

import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from ml_playground.core.run_schema import read_described

FOLDER = "images"
"""Of a data set and of a checkpoint, in which the file lies."""
NAME = "images.json"

# What no model here is made for. They bound what a file that came from elsewhere can make this program allocate.
Channels = Annotated[int, Field(ge=1, le=64)]
Side = Annotated[int, Field(ge=1, le=4096)]
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def plain_and_different(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of classes, if people can read them and tell them apart.

    Raises:
        ValueError: A control character is in one of them, or two are equal.
    """
    for name in names:
        # Terminals and tables show it: an escape sequence would steer the one, a line end break the other.
        if any(unicodedata.category(letter) == "Cc" for letter in name):
            raise ValueError(
                f"{name!r} has a control character or a line end in it; a name of a class is one plain line"
            )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is the name of two classes; nobody could tell them apart")
    return names


class ImageFacts(BaseModel):
    """Images of one shape, each of one class."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    schema_version: Literal[1] = 1
    channels: Channels
    height: Side
    width: Side
    class_names: Annotated[tuple[ClassName, ...], Field(min_length=2, max_length=1 << 16)]
    """In the order of the labels."""
    mean: tuple[float, ...]
    """Of the training images, by channel, pixels as 0 to 1."""
    std: tuple[Annotated[float, Field(gt=0)], ...]
    """Their standard deviation; 1 where they are all the same."""

    @field_validator("class_names")
    @classmethod
    def _can_be_told_apart(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return plain_and_different(names)

    @model_validator(mode="after")
    def _one_number_a_channel(self) -> "ImageFacts":
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"{self.channels} channels have {len(self.mean)} means and {len(self.std)} deviations")
        return self

    @property
    def pixels(self) -> int:
        """Numbers of an image, over all channels."""
        return self.channels * self.height * self.width

    @property
    def for_model(self) -> Mapping[str, int]:
        """What a model must know."""
        return {
            "channels": self.channels,
            "height": self.height,
            "width": self.width,
            "classes": len(self.class_names),
        }

    @property
    def text(self) -> str:
        """The file's content."""
        return self.model_dump_json(indent=1) + "\n"


def read_image_facts(folder: Path) -> ImageFacts:
    """Of a data set's or a checkpoint's folder.

    Raises:
        DataError: The file is missing, or not what is written there.
    """
    return read_described(folder / NAME, ImageFacts, "images")
