"""`[sample]`: the settings of drawn texts."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from ml_playground.configuration.base import (
    ConfigPrompt,
    Count,
    CountOrZero,
    NonNegative,
    Positive,
    Probability,
    Strict,
)

MOST_TEXTS = 1_000_000
"""That one command draws: each is kept until all are drawn."""


class SampleSettings(Strict):
    """`[sample]`: how text is drawn from a model."""

    prompts: Annotated[tuple[ConfigPrompt, ...], Field(min_length=1)] = ("\n",)
    """Texts to go on from; `FILE:path` reads one from a file, its path relative to the file that sets it."""
    num_samples: Count = 3
    """Continuations of each prompt."""
    max_new_tokens: Count = 200
    """Longest continuation."""
    temperature: NonNegative = 0.8
    """Divides the logits; 0 always takes the likeliest token."""
    top_k: CountOrZero = 0
    """Only the k likeliest tokens; 0 is off."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only the likeliest tokens that together reach this probability; 1 is off."""
    min_p: Probability = 0.0
    """Only tokens at least this share as likely as the likeliest; 0 is off."""
    repetition_penalty: Positive = 1.0
    """Above 1: tokens that already occur become less likely; 1 is off."""
    no_repeat_ngram: CountOrZero = 0
    """No run of so many tokens comes twice in a text, its prompt included, as long as another token is left; 0 is off."""
    num_beams: Count = 1
    """Above 1: beam search, which keeps so many continuations open and gives the num_samples likeliest; at temperature 0 only."""
    length_penalty: Annotated[float, Field(ge=-10, le=10)] = 1.0
    """Of a beam search: a continuation's log-probability is divided by its tokens to this power; above 0 longer ones gain."""
    stop: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    """Texts that end a continuation; they are not part of it."""
    processors: bool = True
    """Of a run trained on chats: answers are drawn with what its profile steers them with, as in previews and evaluations."""
    seed: CountOrZero = 1337
    """Seed of the draws; sample i of prompt j is the same whatever else is drawn."""
    weights: Literal["auto", "raw", "ema"] = "auto"
    """Which weights draw; auto: the averaged ones where the run has them."""
    precision: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """Of the weights while drawing, whatever the training used; auto: float32, in which a seed means one text in every batch."""
    engine: Literal["torch", "llama_cpp"] = "torch"
    """What runs the model; `llama_cpp` exports it first, and needs a model that llama.cpp knows and the extra `export`."""

    @model_validator(mode="after")
    def _beams_are_searched_not_drawn(self) -> "SampleSettings":
        if self.num_beams == 1:
            if self.length_penalty != 1.0:
                raise ValueError(
                    f"length_penalty = {self.length_penalty:g} compares the continuations of a beam search, but num_beams = 1; "
                    "set num_beams above 1, or leave it out"
                )
            return self
        wrong = {
            f"temperature = {self.temperature:g} draws, and beams are not drawn; set temperature = 0": self.temperature
            > 0,
            f"num_samples = {self.num_samples} is more than {self.num_beams} beams can find": self.num_samples
            > self.num_beams,
            f"engine = {self.engine!r} cannot branch; set engine = 'torch'": self.engine != "torch",
        }
        if problems := [problem for problem, found in wrong.items() if found]:
            raise ValueError(f"num_beams = {self.num_beams}: {'; '.join(problems)}")
        return self

    @model_validator(mode="after")
    def _not_more_texts_than_can_be_kept(self) -> "SampleSettings":
        texts = len(self.prompts) * self.num_samples
        if texts > MOST_TEXTS:
            raise ValueError(
                f"num_samples = {self.num_samples} of {len(self.prompts)} prompts are {texts} texts; at most {MOST_TEXTS} are drawn at once"
            )
        return self
