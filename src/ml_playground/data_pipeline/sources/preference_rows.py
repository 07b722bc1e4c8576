"""From a row of JSON Lines to a preference: a prompt, an answer that is better, and one that is worse.

| row | prompt |
|---|---|
| `{"prompt": "...", "chosen": "...", "rejected": "..."}` | a user's message; `question`, `instruction`, `input` do as well |
| `{"prompt": [messages], "chosen": [message], "rejected": [message]}` | these messages |
| `{"messages": [messages], "chosen": {message}, "rejected": {message}}`, and `conversations` | these messages |
| `{"chosen": [messages], "rejected": [messages]}` | what both begin with; a `prompt` beside them is not needed |
"""

from collections.abc import Mapping
from typing import Any

from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.sources.chat_rows import (
    LISTS,
    facts_of,
    message_of,
    messages_of,
    text_of,
    with_system,
)
from ml_playground.data_pipeline.sources.jsonl_rows import RowError

PROMPTS = (*LISTS, "prompt", "question", "instruction", "input")
BETTER, WORSE = "chosen", "rejected"


def preference_of(row: Mapping[str, Any], row_id: str) -> ChatExample:
    """The preference that a row holds.

    Raises:
        RowError: It holds none; or its answers have another prompt, or are more than one message each.
    """
    if missing := [key for key in (BETTER, WORSE) if key not in row]:
        raise RowError("unknown_shape", f"the row has no {' and no '.join(missing)}; a preference needs both")
    better, worse = (_answer(row[key], key) for key in (BETTER, WORSE))
    key = next((key for key in PROMPTS if key in row), None)
    if _is_whole(better) or _is_whole(worse):
        prompt, better, worse = _parted(better, worse)
    elif key is None:
        raise RowError("unknown_shape", "the row has no prompt beside chosen and rejected")
    else:
        given = row[key]
        prompt = messages_of(given, key) if isinstance(given, list) else (Message("user", text_of(given, key)),)
    for name, answer in ((BETTER, better), (WORSE, worse)):
        if [message.role for message in answer] != ["assistant"]:
            roles = ", ".join(message.role for message in answer) or "nothing"
            raise RowError("bad_message", f"{name} adds {roles} to the prompt, not one answer of an assistant")
    used = (BETTER, WORSE) if key is None else (BETTER, WORSE, key)
    return ChatExample(row_id, with_system(row, (*prompt, *better)), facts_of(row, *used), worse)


def _answer(value: Any, key: str) -> tuple[Message, ...]:
    """A text, a message, or messages."""
    if isinstance(value, list):
        return messages_of(value, key)
    if isinstance(value, dict):
        return (message_of(value, key),)
    return (Message("assistant", text_of(value, key)),)


def _is_whole(messages: tuple[Message, ...]) -> bool:
    """Whether these are a chat from its beginning, not an answer alone."""
    return bool(messages) and messages[0].role != "assistant"


def _parted(
    better: tuple[Message, ...], worse: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """What two chats begin with, and how each goes on; of equal ones the last message is the answer."""
    most = min(len(better), len(worse)) - 1
    alike = next((place for place in range(most) if better[place] != worse[place]), most)
    return better[:alike], better[alike:], worse[alike:]
