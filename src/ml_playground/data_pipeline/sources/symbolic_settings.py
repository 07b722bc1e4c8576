"""Settings of the source of symbolic problems; free of torch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ml_playground.configuration.base import Component, Count, CountOrZero, Modality

Domain = Literal["arithmetic", "lists", "logic", "syllogisms"]
Level = Annotated[int, Field(ge=1, le=5)]


class SymbolicProblems(Component):
    """Small problems in words, answered in a grammar with their steps: as many as wanted, each once, by level and domain."""

    modality: ClassVar[Modality | None] = "chats"

    kind: Literal["symbolic_problems"] = "symbolic_problems"
    """Problems that are made up, always there."""
    count: Count = 8000
    """How many, in equal parts of each level of each domain."""
    seed: CountOrZero = 0
    """Of what is drawn; another one gives other problems, and the same ones in the same splits where `split_by` is "hash"."""
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = (1, 2)
    """Which, from 1 to 5: more numbers, longer lists, more premises."""
    domains: Annotated[tuple[Domain, ...], Field(min_length=1)] = ("arithmetic", "lists", "logic", "syllogisms")
    """Which kinds of problem."""
    steps: bool = True
    """Whether answers show the steps between the problem and its result."""

    @model_validator(mode="after")
    def _each_once(self) -> "SymbolicProblems":
        for key, named in (("levels", self.levels), ("domains", self.domains)):
            if len(set(named)) < len(named):
                raise ValueError(f"{key} = {list(named)} names one twice")
        return self
