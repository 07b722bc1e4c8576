"""What a profile offers: how chats are decorated before they are trained on, how answers are drawn, and what of them is scored."""

from collections.abc import Collection, Sequence
from datetime import date
from typing import TYPE_CHECKING, Protocol

from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.core.values import ChatExample, Message

if TYPE_CHECKING:
    # Preparing needs no torch, and processors of logits are nothing without it.
    from ml_playground.models.protocols import LogitsProcessor


class DataProfile(Protocol):
    """One contract for training data, previews, evaluations and chats, so that they cannot differ."""

    def transform(self, example: ChatExample, index: int) -> ChatExample:
        """The chat as it is trained on, or asked for where its last answer is still missing.

        Pure: what is random in it comes from the profile's seed and `index` alone. Idempotent: what it made, it leaves as it is.

        Args:
            example: The chat; it is not changed.
            index: Its number, one for all splits and files.
        """
        ...

    def prompted(self, messages: Sequence[Message], today: date) -> tuple[Message, ...]:
        """The messages with the profile's system prompt; idempotent. A date that the settings name is used instead of `today`."""
        ...

    def validate(self, example: ChatExample) -> Sequence[str]:
        """What is wrong with a transformed chat, in words; empty where nothing is."""
        ...

    def logits_processors(self, tokenizer: Tokenizer, stop_ids: Collection[int]) -> Sequence["LogitsProcessor"]:
        """What steers drawing an answer.

        Args:
            tokenizer: Of the model.
            stop_ids: Ids that end an assistant's turn.
        """
        ...

    def answer_of(self, text: str) -> str | None:
        """What of an assistant's text is scored; None where it holds no answer."""
        ...

    def matches(self, given: str, wanted: str) -> bool:
        """Whether two texts of an assistant answer the same, as the profile compares answers."""
        ...
