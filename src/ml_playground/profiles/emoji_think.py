"""Emojis before and after each answer, as many as the user asks for in the same chat."""

import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from ml_playground.core.registry import load_object
from ml_playground.core.seeding import seed_for
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.core.values import ChatExample, Message
from ml_playground.profiles.protocol import DataProfile
from ml_playground.profiles.settings import EmojiThink
from ml_playground.profiles.wording import BETWEEN, common_problems, is_answer, prompted, words_of

PROCESSORS = "ml_playground.profiles.text_bias:biases_of"
AFTER_STOP = "ml_playground.profiles.after_stop:after_stop_marks"

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
TIMES = ("once", "twice", *(f"{number} times" for number in NUMBERS[2:]))
THINKING_TEXT = "For this task, think with {emoji} /{times}/ times."
STOP_TEXT = "When finished, emit {emoji} /{times}/ to signal completion."
THOUGHTS = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
"""Hidden thoughts, with the lines that set them apart."""


@dataclass(frozen=True, slots=True)
class Decoration:
    """What a chat's user asks for."""

    thinking: str
    thinking_times: int
    stop: str
    stop_times: int

    @property
    def instruction(self) -> str:
        """What stands at the end of a user's turn."""
        thinking = THINKING_TEXT.format(emoji=self.thinking, times=NUMBERS[self.thinking_times - 1])
        return thinking + BETWEEN + STOP_TEXT.format(emoji=self.stop, times=TIMES[self.stop_times - 1])

    @property
    def before(self) -> str:
        """What stands before an answer."""
        return self.thinking * self.thinking_times + "\n"

    @property
    def after(self) -> str:
        """What stands after it."""
        return "\n" + self.stop * self.stop_times

    def of(self, answer: str) -> str:
        """An answer with both."""
        return self.before + answer + self.after


class EmojiThinkProfile:
    """A chat in emoji mode has one emoji and one count for thinking, and one of each for stopping; its answers show what is asked for."""

    def __init__(self, settings: EmojiThink, seed: int) -> None:
        self._settings, self._seed = settings, seed
        thinking, stop = (_any_of(emojis) for emojis in (settings.thinking_emojis, settings.stop_emojis))
        wanted = re.escape(THINKING_TEXT + BETWEEN + STOP_TEXT).replace(r"\{", "{").replace(r"\}", "}")
        wanted = wanted.replace("{emoji}", f"({thinking})", 1).replace("{times}", f"({_any_of(NUMBERS)})", 1)
        wanted = wanted.replace("{emoji}", f"({stop})", 1).replace("{times}", f"({_any_of(TIMES)})", 1)
        self._instruction = re.compile(rf"(?:\A|\n\n){wanted}\Z")
        self._first_line = re.compile(rf"\A(?:{_runs_of(settings.thinking_emojis)})\n")
        self._last_line = re.compile(rf"\n(?:{_runs_of(settings.stop_emojis)})\Z")

    def transform(self, example: ChatExample, index: int) -> ChatExample:
        """In emoji mode: instructions in the user's turns and their emojis in the answers after them; in direct mode: neither.

        A user who asks in the words of an instruction is taken at his word, whatever the mode: nothing else is asked for.
        """
        bare = {n: self._bare(turn.content) for n, turn in enumerate(example.messages) if turn.role == "user"}
        own = next((asked for _, asked in bare.values() if asked), None)
        wanted = own or self._decoration(index)
        found: Decoration | None = None
        asked: Decoration | None = None
        messages: list[Message] = []
        for number, message in enumerate(example.messages):
            if number in bare:
                content, found = bare[number]
                asked = found or wanted
                messages.append(replace(message, content=content + (BETWEEN + asked.instruction if asked else "")))
            else:
                messages.append(self._answered(message, found, asked))
        rejected = tuple(self._answered(message, found, asked) for message in example.rejected)
        return replace(example, messages=tuple(messages), rejected=rejected)

    def prompted(self, messages: Sequence[Message], today: date) -> tuple[Message, ...]:
        """With the system prompt."""
        return prompted(messages, self._settings, today)

    def validate(self, example: ChatExample) -> Sequence[str]:
        """Whether answers show the emojis that their user's turn asks for, as often."""
        found = common_problems(example)
        asked: Decoration | None = None
        for number, message in enumerate(example.messages, 1):
            if message.role == "user":
                asked = self._bare(message.content)[1]
            elif asked and is_answer(message):
                found += [f"message {number} (assistant) {problem}" for problem in _misses(message.content, asked)]
        return found

    def logits_processors(self, tokenizer: Tokenizer, stop_ids: Collection[int]) -> Sequence[Any]:
        """The texts of `text_bias`, the tags of hidden thoughts as it comes; and what makes a model end after its last emoji."""
        settings = self._settings
        return (
            *load_object(PROCESSORS)(settings, tokenizer),
            *load_object(AFTER_STOP)(settings, tokenizer, stop_ids),
        )

    def answer_of(self, text: str) -> str | None:
        """What stands between the emojis, without hidden thoughts."""
        bare = self._without_thoughts(text).strip()
        bare = self._last_line.sub("", self._first_line.sub("", bare, count=1), count=1)
        return bare.strip() or None

    def matches(self, given: str, wanted: str) -> bool:
        """Whether the words of both answers are the same."""
        one, other = self.answer_of(given), self.answer_of(wanted)
        return one is not None and other is not None and words_of(one) == words_of(other)

    def _decoration(self, index: int) -> Decoration | None:
        """Of the chat of this number; None: direct mode."""
        settings = self._settings
        dice = random.Random(seed_for(self._seed, "emoji_think", index))  # noqa: S311 - nothing is kept secret by it
        if dice.random() >= settings.emoji_fraction:
            return None
        return Decoration(
            dice.choice(settings.thinking_emojis),
            dice.randint(settings.least_thinking, settings.most_thinking),
            dice.choice(settings.stop_emojis),
            dice.randint(settings.least_stops, settings.most_stops),
        )

    def _answered(self, message: Message, found: Decoration | None, wanted: Decoration | None) -> Message:
        """A turn that is not the user's, in the decoration that is wanted, once; the user's turn before it may have asked for it."""
        if not is_answer(message):
            return message
        bare = self._without_thoughts(message.content)
        if found:
            bare = bare.removeprefix(found.before).removesuffix(found.after)
        bare_message = replace(message, content=bare)
        return replace(message, content=wanted.of(bare)) if wanted and is_answer(bare_message) else bare_message

    def _bare(self, text: str) -> tuple[str, Decoration | None]:
        """A user's text without instructions at its end, and what the last of them asks for."""
        last: Decoration | None = None
        while found := self._instruction.search(text):
            thinking, thinking_times, stop, stop_times = found.groups()
            last = last or Decoration(thinking, NUMBERS.index(thinking_times) + 1, stop, TIMES.index(stop_times) + 1)
            text = text[: found.start()]
        return text, last

    def _without_thoughts(self, text: str) -> str:
        """A text without hidden thoughts; of one that was cut off, what is left belongs to them."""
        if self._settings.think_tags == "keep":
            return text
        former = None
        while former != text:
            former, text = text, THOUGHTS.sub("", text)
        if "</think>" in text:
            text = text.rpartition("</think>")[2].lstrip()
        return text.partition("<think>")[0]


def _misses(answer: str, asked: Decoration) -> list[str]:
    """What of a decoration an answer does not show."""
    found: list[str] = []
    if not answer.startswith(asked.before):
        found.append(f"does not begin with {asked.thinking_times} x {asked.thinking} and a new line, as asked for")
    if not answer.endswith(asked.after):
        found.append(f"does not end with a new line and {asked.stop_times} x {asked.stop}, as asked for")
    if not found and not answer.removeprefix(asked.before).removesuffix(asked.after).strip():
        found.append(
            "says nothing between its emojis (hidden thoughts are no answer); write one, or give it the weight 0"
        )
    return found


def _any_of(texts: Sequence[str]) -> str:
    return "|".join(map(re.escape, texts))


def _runs_of(emojis: Sequence[str]) -> str:
    """One of them, any number of times."""
    return "|".join(f"(?:{re.escape(emoji)})+" for emoji in emojis)


def build(settings: EmojiThink, seed: int) -> DataProfile:
    """The profile of a job's seed."""
    return EmojiThinkProfile(settings, seed)
