"""Settings of the tokenizers; free of heavy imports."""

from typing import Annotated, Literal

from pydantic import Field

from ml_playground.configuration.base import Component, Count


class Char(Component):
    """One id for each character of the training text, in the order of code points."""

    kind: Literal["char"] = "char"
    """Characters."""


class Byte(Component):
    """One id for each byte of UTF-8: nothing is ever unknown."""

    kind: Literal["byte"] = "byte"
    """Bytes."""


class ByteBpe(Component):
    """Byte-level byte-pair encoding, trained on the training text; lossless."""

    kind: Literal["byte_bpe"] = "byte_bpe"
    """Byte pairs, merged."""
    vocab_size: Annotated[int, Field(ge=257, le=1_000_000)] = 8192
    """Ids in all, the 256 bytes and the end-of-text mark among them."""
    min_frequency: Count = 2
    """A pair that is rarer than this is not merged."""
