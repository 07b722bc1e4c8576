"""`evaluations/<split>.json`: how well a classifier does on a split; written by `mlp evaluate`, shown by the report. K classes."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ml_playground.core.run_schema import SCHEMA_VERSION, Row, Step

MOST_CLASSES = 100
"""Of more no table of confusions is kept: nobody could read it."""
MOST_MISTAKES = 1000
"""That a file may hold; ours hold far fewer."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=0, lt=1 << 63)]
Name = Annotated[str, Field(max_length=200)]


class Baseline(Row):
    """What is reached without learning much."""

    accuracy: Share
    loss: float | None
    """Nats per image; none for one that gives no probabilities."""


class Mistake(Row):
    """An image whose class was not recognised."""

    number: Number
    """In the split."""
    name: Name
    """Its class."""
    predicted: Name
    """The class that the model takes it for."""
    probability: Share
    """That the model gives to that class."""
    nats: float
    """Its loss."""
    pixels: Annotated[str, Field(max_length=1 << 24)]
    """Bytes in the order of channels, rows, columns, as base64."""


class Classification(Row):
    """A classifier on one split."""

    schema_version: Literal[1] = SCHEMA_VERSION
    checkpoint: str
    step: Step
    weights: Literal["raw", "ema"]
    split: Literal["train", "val", "test"]
    images: Annotated[int, Field(ge=1, lt=1 << 63)]
    loss: float
    """Nats per image."""
    accuracy: Share
    low: Share
    """Of the interval that holds the true accuracy with 95 % confidence."""
    high: Share
    """Of the same."""
    baselines: dict[str, Baseline]
    classes: Annotated[list[Name], Field(max_length=1 << 16)]
    confusion: Annotated[list[list[Number]], Field(max_length=MOST_CLASSES)]
    """A row for each class, a column for each that was predicted; empty for more than `MOST_CLASSES`."""
    channels: Annotated[int, Field(ge=1, le=64)]
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    mistakes: Annotated[list[Mistake], Field(max_length=MOST_MISTAKES)]
    """The worst, by their loss."""

    @model_validator(mode="after")
    def _square(self) -> "Classification":
        if self.confusion and any(len(row) != len(self.classes) for row in (self.confusion, *self.confusion)):
            raise ValueError(f"confusion is no table of {len(self.classes)} by {len(self.classes)}")
        return self

    def recalls(self) -> list[float | None]:
        """Of each class, the share of its images that were recognised; None for a class without images."""
        return [_share(row[place], sum(row)) for place, row in enumerate(self.confusion)]

    def precisions(self) -> list[float | None]:
        """Of what was taken for each class, the share that was right; None where nothing was."""
        columns = [sum(column) for column in zip(*self.confusion, strict=True)]
        return [_share(row[place], columns[place]) for place, row in enumerate(self.confusion)]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
