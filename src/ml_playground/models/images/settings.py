"""Settings of the models that tell images apart; free of torch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ml_playground.configuration.base import Component, Modality, Probability

# No machine holds a model near these. They bound what a file that came from elsewhere can make this program build.
Blocks = Annotated[int, Field(ge=1, le=500)]
Heads = Annotated[int, Field(ge=1, le=1 << 12)]
Width = Annotated[int, Field(ge=1, le=1 << 16)]
Side = Annotated[int, Field(ge=1, le=4096)]


class MnistCnn(Component):
    """A small convolutional network: two stages of two convolutions, each stage halved in size, and a hidden layer."""

    modality: ClassVar[Modality | None] = "images"

    kind: Literal["mnist_cnn"] = "mnist_cnn"
    """Convolutional network."""
    channels: Width = 32
    """Maps of the first stage; the second has twice as many."""
    hidden: Width = 128
    """Numbers of the layer before the classes."""
    dropout: Probability = 0.25
    """Share of that layer left out in training."""


class Vit(Component):
    """A small vision transformer: patches of an image as a sequence, attention in all directions, the mean of all patches."""

    modality: ClassVar[Modality | None] = "images"

    kind: Literal["vit"] = "vit"
    """Vision transformer."""
    patch_size: Side = 4
    """Rows and columns of a patch; both sides of the images must be multiples of it."""
    n_layer: Blocks = 4
    """Blocks."""
    n_head: Heads = 4
    """Heads of a block."""
    n_embd: Width = 64
    """Width C of the residual stream; a multiple of n_head."""
    n_inner: Width | None = None
    """Width of the feed-forward layer; none: 4 C."""
    dropout: Probability = 0.0
    """On patches, attention and what is added to the residual stream."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "Vit":
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd = {self.n_embd} is not a multiple of n_head = {self.n_head}; "
                f"use n_embd = {-(-self.n_embd // self.n_head) * self.n_head} or another n_head"
            )
        return self

    @property
    def inner_width(self) -> int:
        """Width of the feed-forward layer as resolved."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner
