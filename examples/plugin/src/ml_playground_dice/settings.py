"""Settings of the three kinds, and what the model costs; free of torch."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ml_playground.configuration.base import Component, Count, CountOrZero, HookSettings, Modality, Positive
from ml_playground.core.values import ModelCost

SIDES = 6


class LoadedDice(Component):
    """Games with a die that likes to fall as it fell before: the entropy of the text is known, so the best loss is too."""

    kind: Literal["loaded_dice"] = "loaded_dice"
    """Throws of a loaded die."""
    games: Count = 200
    """Documents; each is a line of throws."""
    throws: Annotated[int, Field(ge=2)] = 100
    """Throws of a game."""
    stickiness: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """Probability of the side that was thrown before; the others share the rest."""
    seed: CountOrZero = 0
    """Which games: equal seeds throw equally."""

    @property
    def entropy(self) -> float:
        """Nats of a throw whose predecessor is known: no model can have a lower loss."""
        other = (1 - self.stickiness) / (SIDES - 1)
        return -self.stickiness * math.log(self.stickiness) - (1 - self.stickiness) * math.log(other)


class Bigram(Component):
    """A table of logits: the next token depends on the last one alone."""

    kind: Literal["bigram"] = "bigram"
    """One row of logits for each token."""
    init_std: Positive = 0.02
    """Standard deviation of the logits at the start."""


class Goal(HookSettings):
    """Finishes a run whose validation loss is low enough."""

    modality: ClassVar[Modality | None] = None
    decides_the_end: ClassVar[bool] = True

    kind: Literal["goal"] = "goal"
    """Finish when it is reached."""
    loss: Positive = 1.0
    """Nats per target, at or below which the run is done."""


def cost(settings: Bigram, facts: Mapping[str, int]) -> ModelCost:
    """A look-up in a table, there and back: nothing is multiplied."""
    del settings
    vocab_size = facts["vocab_size"]
    return ModelCost(
        parameters=vocab_size**2,
        matrix_parameters=0,
        flops_per_token=2 * vocab_size,
        vocab_size=vocab_size,
        sequence_tokens=facts["sequence_tokens"],
        uncompiled="there is nothing to compile in a table",
    )
