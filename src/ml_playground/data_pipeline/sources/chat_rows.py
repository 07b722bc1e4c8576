"""From a row of JSON Lines to a chat: messages, prompt and answer, or plain text, in the spellings that are in use.

| row | becomes |
|---|---|
| `{"messages": [{"role": "user", "content": "..."}, ...]}` | these messages |
| `{"conversations": [{"from": "human", "value": "..."}, ...]}` | the same; human is user, gpt is assistant |
| `{"prompt": "...", "completion": "..."}`, and the other rows of `PAIRS` | a user and an assistant; `system` before them |
| `{"text": "..."}` | one message of the role `text` |
"""

import json
from collections.abc import Mapping
from typing import Any, cast

from ml_playground.core.registry import did_you_mean
from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.sources.jsonl_rows import RowError, kind_words

TEXT_ROLE = "text"
PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("input", "output"),
)
ALIASES = {"human": "user", "gpt": "assistant"}


def chat_of(row: Mapping[str, Any], row_id: str) -> ChatExample:
    """The chat that a row holds.

    Raises:
        RowError: It holds none, or a message of it has no role or no text.
    """
    for key in ("messages", "conversations"):
        if key in row:
            return ChatExample(row_id, _messages(row[key], key))
    for prompt, answer in PAIRS:
        if prompt in row and answer in row:
            return ChatExample(row_id, _pair(row, prompt, answer))
    if "text" in row:
        return ChatExample(row_id, (Message(TEXT_ROLE, _text(row["text"], "text")),))
    keys = ", ".join(repr(key[:40]) for key in list(row)[:8]) or "nothing"
    hint = next((hint for key in row if (hint := did_you_mean(key, ("messages", "conversations", "text")))), "")
    raise RowError("unknown_shape", f"the row holds {keys}; it needs messages, prompt and completion, or text{hint}")


def _pair(row: Mapping[str, Any], prompt: str, answer: str) -> tuple[Message, ...]:
    """System if there is one, the prompt (with an instruction's input below it), the answer."""
    asked = _text(row[prompt], prompt)
    if prompt == "instruction" and row.get("input"):
        asked = f"{asked}\n\n{_text(row['input'], 'input')}"
    system = (Message("system", _text(row["system"], "system")),) if row.get("system") else ()
    return (*system, Message("user", asked), Message("assistant", _text(row[answer], answer)))


def _messages(value: Any, key: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise RowError("bad_message", f"{key} is {_kind(value)}, not a list of messages")
    return tuple([_message(entry, key, number) for number, entry in enumerate(cast(list[Any], value))])


def _message(entry: Any, key: str, number: int) -> Message:
    if not isinstance(entry, dict):
        raise RowError("bad_message", f"{key}[{number}] is {_kind(entry)}, not an object with role and content")
    message = cast(dict[str, Any], entry)
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if not isinstance(role, str):
        got = "no role" if role is None else f"{_kind(role)} as its role"
        raise RowError("bad_message", f"{key}[{number}] has {got}")
    if not isinstance(content, str):
        if content is None and (calls := message.get("tool_calls")):
            content = json.dumps(calls, ensure_ascii=False)
        content = _text(content, f"{key}[{number}].content")
    return Message(ALIASES.get(role, role), content)


def _text(value: Any, where: str) -> str:
    """A text, or the text parts of a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = cast(list[Any], value)
        texts = [cast(dict[str, Any], part).get("text") if isinstance(part, dict) else part for part in parts]
        if all(isinstance(text, str) for text in texts):
            return "".join(cast(list[str], texts))
    raise RowError("bad_message", f"{where} is {_kind(value)}, not text")


def _kind(value: Any) -> str:
    return "missing" if value is None else kind_words(value)
