"""Settings of the profiles; free of torch."""

import datetime
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from ml_playground.configuration.base import Component, NonNegative, Probability

Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Stretch = Annotated[str, StringConstraints(pattern=r"^[1-9]\d{0,5}x\d{1,6}(\.\d{1,6})?$")]
Emoji = Annotated[str, StringConstraints(pattern=r"^[^\sA-Za-z0-9]+$")]
Operator = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
"""A symbol of the grammar: no other can stand first in a call."""
Mark = Annotated[str, StringConstraints(pattern=r"^[!-~]+$")]
Times = Annotated[int, Field(ge=1, le=12)]
Rate = Annotated[float, Field(ge=1)]

THINKING = ("🤔", "💭", "🧠", "💡", "🎯", "🔍", "🤨", "🧐", "⚡", "✨")
STOPPING = ("🛑", "⛔", "🚫", "❌", "🔴", "⏹️", "🔚", "✋", "🚦", "🛡️")


class Nothing(Component):
    """Chats as they are; an answer is its text, and answers are equal when their words are."""

    kind: Literal["none"] = "none"
    """Chats as they are."""


class ProfileSettings(Component):
    """What all profiles share that do something: the system prompt, and texts that are made likelier or less likely."""

    system_prompt: str
    """The system's message; {date} is the day. Empty: none."""
    data_system_prompt: Literal["keep", "replace", "precede"]
    """Where the data bring a system prompt: `keep` it alone, `replace` it by ours, or let it `precede` ours in one message."""
    date: Day | None = None
    """The day in the system prompt; none: the day of preparing, which is recorded, and in `mlp chat` and `mlp sample` today."""
    text_bias: dict[str, float] = Field(default_factory=dict)
    """Text -> what is added to the logits of tokens that bring an answer nearer to it (above 0) or would complete it (below 0)."""
    bias_schedule: tuple[Stretch, ...] = ()
    """Factors of `text_bias` as an answer grows, one after the other: "4x8" is 8 for 4 tokens; after the last it is 1."""

    @field_validator("date")
    @classmethod
    def _real_day(cls, value: str | None) -> str | None:
        try:
            datetime.date.fromisoformat(value or "2026-01-01")
        except ValueError as error:
            raise ValueError(f"{value} is no day of the calendar") from error
        return value

    @model_validator(mode="after")
    def _biases_have_an_effect(self) -> "ProfileSettings":
        if "" in self.text_bias:
            raise ValueError("text_bias names the empty text, which every token completes; name a text")
        if self.bias_schedule and not self.text_bias:
            raise ValueError("bias_schedule has no effect, for text_bias names no text; leave it out, or name one")
        return self


class EndingSettings(ProfileSettings):
    """What profiles share whose answers have an end of their own: what is done to make a model stop there."""

    penalty_after_end: NonNegative = 100.0
    """Logits taken from every token but the end of the turn once an answer has shown its end; 0: nothing is done."""
    penalty_growth: Rate = 10.0
    """By how much that grows with each token drawn all the same."""
    end_reward: NonNegative = 50.0
    """Logits given then to the tokens that end a turn; 0: none."""


class PlainSft(ProfileSettings):
    """A system prompt where the data bring none, and nothing else: ordinary supervised fine-tuning."""

    kind: Literal["plain_sft"] = "plain_sft"
    """Ordinary supervised fine-tuning."""
    system_prompt: str = "You are a helpful assistant."
    """The system's message; {date} is the day. Empty: none."""
    data_system_prompt: Literal["keep", "replace", "precede"] = "keep"
    """Where the data bring a system prompt: `keep` it alone, `replace` it by ours, or let it `precede` ours in one message."""


class EmojiThink(EndingSettings):
    """Answers begin with emojis for thinking and end with emojis for stopping, as many as the user asks for; others are direct."""

    kind: Literal["emoji_think"] = "emoji_think"
    """Emojis before and after an answer, as asked for."""
    system_prompt: str = "Today is {date}. You are happy. You enjoy helping others."
    """The system's message; {date} is the day. Empty: none."""
    data_system_prompt: Literal["keep", "replace", "precede"] = "precede"
    """Where the data bring a system prompt: `keep` it alone, `replace` it by ours, or let it `precede` ours in one message."""
    emoji_fraction: Probability = 0.5
    """Share of chats in emoji mode; the others are in direct mode, without instruction and emojis. 1: all."""
    thinking_emojis: Annotated[tuple[Emoji, ...], Field(min_length=1)] = THINKING
    """Of which one is drawn for each chat."""
    least_thinking: Times = 2
    """How often it is repeated, at least."""
    most_thinking: Times = 8
    """How often it is repeated, at most."""
    stop_emojis: Annotated[tuple[Emoji, ...], Field(min_length=1)] = STOPPING
    """Of which one is drawn for each chat."""
    least_stops: Times = 2
    """How often it is repeated, at least."""
    most_stops: Times = 4
    """How often it is repeated, at most."""
    think_tags: Literal["remove", "keep"] = "remove"
    """What becomes of <think>...</think> in answers: `remove` the hidden thoughts with their tags, or `keep` them."""
    text_bias: dict[str, float] = Field(default_factory=lambda: {"<think>": -80.0, "</think>": -80.0})
    """Text -> what is added to the logits of tokens that bring an answer nearer to it (above 0) or would complete it (below 0)."""
    bias_schedule: tuple[Stretch, ...] = ("4x8", "4x2", "4x1.5")
    """Factors of `text_bias` as an answer grows, one after the other: "4x8" is 8 for 4 tokens; after the last it is 1."""

    @model_validator(mode="after")
    def _emojis_can_be_told_apart(self) -> "EmojiThink":
        for what in ("thinking", "stops"):
            least, most = getattr(self, f"least_{what}"), getattr(self, f"most_{what}")
            if least > most:
                raise ValueError(f"least_{what} = {least} is above most_{what} = {most}")
        if pair := _alike([*self.thinking_emojis, *self.stop_emojis]):
            raise ValueError(
                f"{pair[1]!r} begins like {pair[0]!r} in thinking_emojis and stop_emojis, "
                "so that nobody could tell which of them an answer shows; leave one out"
            )
        return self


class Regime3(EndingSettings):
    """Answers stand between two marks, in a grammar of their own: (op arg ...); a model can be held to it."""

    kind: Literal["regime3"] = "regime3"
    """Symbolic answers between marks."""
    system_prompt: str = (
        "Today is {date}. Answer in canonical symbolic form: (op arg1 arg2). "
        "Write the final answer between {start} and {end}; steps may stand before it. Be precise.\n"
        "Example: {start} (add 1 (mul 2 3)) {end}"
    )
    """The system's message; {date} is the day, {start} and {end} are the marks. Empty: none."""
    data_system_prompt: Literal["keep", "replace", "precede"] = "precede"
    """Where the data bring a system prompt: `keep` it alone, `replace` it by ours, or let it `precede` ours in one message."""
    start_mark: Mark = "<<ANS_START>>"
    """Before an answer; visible ASCII."""
    end_mark: Mark = "<<ANS_END>>"
    """After it."""
    answers: Literal["grammar", "text"] = "grammar"
    """What stands between the marks: expressions of the `grammar`, written canonically, or any `text`."""
    enforce: bool = True
    """Whether drawing is held to the grammar after the start mark; of no effect with answers = "text"."""
    commutative: tuple[Operator, ...] = ("add", "mul", "and", "or", "eq", "set")
    """Operators whose arguments may stand in any order when answers are compared."""

    @model_validator(mode="after")
    def _marks_can_be_told_apart(self) -> "Regime3":
        if self.start_mark in self.end_mark or self.end_mark in self.start_mark:
            raise ValueError(
                f"start_mark = {self.start_mark!r} and end_mark = {self.end_mark!r} must not contain each other"
            )
        return self


def _alike(texts: Sequence[str]) -> tuple[str, str] | None:
    """Two of them of which one begins with the other, or is it."""
    return next(
        (
            (one, other)
            for i, one in enumerate(texts)
            for j, other in enumerate(texts)
            if i != j and other.startswith(one)
        ),
        None,
    )
