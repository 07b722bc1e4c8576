"""Settings of small weights that are trained beside frozen ones; free of torch."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from ml_playground.configuration.base import Component, Count, Positive

ModuleName = Annotated[str, StringConstraints(min_length=1)]


class Lora(Component):
    """Low-rank matrices beside frozen ones (LoRA): W x + alpha/r B A x, of which only A and B are trained; needs the extra `hf`."""

    kind: Literal["lora"] = "lora"
    """Low-rank matrices of the peft library."""
    r: Count = 16
    """Rank: rows of A and columns of B."""
    alpha: Positive = 32.0
    """The product is scaled by alpha / r, so that another rank needs no other learning rate."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """On what A reads."""
    targets: Literal["all-linear"] | Annotated[tuple[ModuleName, ...], Field(min_length=1)] = "all-linear"
    """Matrices that get such a pair: `all-linear` is all but the output layer; or the last part of names, as ["q_proj", "v_proj"]."""
    rslora: bool = False
    """Scale by alpha / sqrt(r) instead, which keeps high ranks from learning too slowly (Kalajdzievski 2023)."""
    dora: bool = False
    """Train the length of each row of W apart from its direction (Liu et al. 2024); every step then computes all of W anew."""
    quantise: Literal["none", "nf4"] = "none"
    """`nf4`: frozen matrices are held in four bits (QLoRA); on CUDA only, with the package bitsandbytes."""

    @model_validator(mode="after")
    def _targets_differ(self) -> "Lora":
        twice = sorted({name for name in self.targets if self.targets.count(name) > 1})
        if isinstance(self.targets, tuple) and twice:
            raise ValueError(f"targets names {', '.join(twice)} more than once; name each once")
        return self
