"""`chat.json` beside a tokenizer: how to hold a chat with a model that was trained on these chats, wherever its checkpoint goes."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ml_playground.core.error_handling import DataError
from ml_playground.core.run_schema import read_described
from ml_playground.core.values import ChatExample, Message

NAME = "chat.json"
"""In the folder of the tokenizer."""
TEMPLATE_NAME = "chat_template.jinja"
"""Beside it: the template that the chats were rendered with."""


class HeldOut(BaseModel):
    """A chat of the validation part, as it was rendered."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str
    messages: tuple[Mapping[str, Any], ...]
    facts: Mapping[str, Any] = Field(default_factory=dict[str, Any])

    @property
    def example(self) -> ChatExample:
        """The chat."""
        return ChatExample(self.id, tuple(message_of(message) for message in self.messages), self.facts)


class ChatFacts(BaseModel):
    """What ends an answer, what was made of the chats before they were rendered, and on which day."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    schema_version: Literal[1] = 1
    stop_ids: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Ids that end a turn of the assistant: the last targets of the answers."""
    template_sha256: str
    """Of the template that the chats were rendered with."""
    today: date
    """The day that system prompts name."""
    tokens: Mapping[str, str] = Field(default_factory=dict[str, str])
    """The template's variables of special tokens: bos_token, eos_token, ..."""
    control: tuple[str, ...] = ()
    """How special tokens are spelled: what a message says in these words is encoded as text."""
    profile: Mapping[str, Any] | None = None
    """Settings of the profile, its kind among them; none: the chats were left as they are."""
    seed: int = 0
    """Which the profile was built with."""
    held_out: tuple[HeldOut, ...] = ()
    """A few chats of the validation part, for previews: first questions of somebody who has no other."""

    @property
    def text(self) -> str:
        """The file's content."""
        return self.model_dump_json(indent=1) + "\n"


def message_of(message: Mapping[str, Any]) -> Message:
    """From the form in which rows and files have it: role, content, and what else a template may use."""
    extra = {key: value for key, value in message.items() if key not in ("role", "content", "weight")}
    return Message(str(message.get("role", "")), str(message.get("content") or ""), extra=extra)


def json_of(message: Message) -> dict[str, Any]:
    """The form of rows and files: `message_of` gives it back."""
    return {"role": message.role, "content": message.content, **message.extra}


def has_chat_facts(folder: Path) -> bool:
    """Whether a tokenizer's folder belongs to chats."""
    return (folder / NAME).is_file()


def read_chat_facts(folder: Path, *, vocab_size: int | None = None) -> ChatFacts:
    """Of a tokenizer's folder.

    Args:
        folder: It holds chat.json.
        vocab_size: Of the tokenizer, where it is known: an id beyond it would never end an answer.

    Raises:
        DataError: The file is missing, or not what is written there.
    """
    facts = read_described(folder / NAME, ChatFacts, "chats")
    beyond = [index for index in facts.stop_ids if vocab_size is not None and index >= vocab_size]
    if beyond:
        raise DataError(
            f"{folder / NAME} is not what describes chats: stop_ids holds {', '.join(map(str, beyond[:4]))}, and the tokenizer beside "
            f"it has the ids 0 to {(vocab_size or 0) - 1}; restore it from a copy."
        )
    return facts
