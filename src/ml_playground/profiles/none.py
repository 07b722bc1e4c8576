"""The profile of jobs without one: chats as they are."""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.core.values import ChatExample, Message
from ml_playground.profiles.protocol import DataProfile
from ml_playground.profiles.settings import Nothing
from ml_playground.profiles.wording import common_problems, words_of


class NoProfile:
    """Chats as they are."""

    def transform(self, example: ChatExample, index: int) -> ChatExample:
        """As it is."""
        del index
        return example

    def prompted(self, messages: Sequence[Message], today: date) -> tuple[Message, ...]:
        """As they are."""
        del today
        return tuple(messages)

    def validate(self, example: ChatExample) -> Sequence[str]:
        """Whether something is asked, and answered."""
        return common_problems(example)

    def logits_processors(self, tokenizer: Tokenizer, stop_ids: Collection[int]) -> Sequence[Any]:
        """None."""
        del tokenizer, stop_ids
        return ()

    def answer_of(self, text: str) -> str | None:
        """The text without white space around it."""
        return text.strip() or None

    def matches(self, given: str, wanted: str) -> bool:
        """Whether the words are the same."""
        return words_of(given) == words_of(wanted)


def build(settings: Nothing, seed: int) -> DataProfile:
    """The profile; nothing in it is random."""
    del settings, seed
    return NoProfile()
