"""Ordinary supervised fine-tuning: a system prompt where the data bring none."""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

from ml_playground.core.registry import load_object
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.core.values import Message
from ml_playground.profiles.none import NoProfile
from ml_playground.profiles.protocol import DataProfile
from ml_playground.profiles.settings import PlainSft
from ml_playground.profiles.wording import prompted

BIASES = "ml_playground.profiles.text_bias:biases_of"


class PlainSftProfile(NoProfile):
    """Chats as they are, behind a system prompt."""

    def __init__(self, settings: PlainSft) -> None:
        self._settings = settings

    def prompted(self, messages: Sequence[Message], today: date) -> tuple[Message, ...]:
        """With the system prompt."""
        return prompted(messages, self._settings, today)

    def logits_processors(self, tokenizer: Tokenizer, stop_ids: Collection[int]) -> Sequence[Any]:
        """The texts of `text_bias`."""
        del stop_ids
        return load_object(BIASES)(self._settings, tokenizer)


def build(settings: PlainSft, seed: int) -> DataProfile:
    """The profile; nothing in it is random."""
    del seed
    return PlainSftProfile(settings)
