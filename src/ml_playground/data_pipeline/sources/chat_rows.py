"""From a row of JSON Lines to a chat: messages, prompt and answer, or plain text, in the spellings that are in use.

| row | becomes |
|---|---|
| `{"messages": [{"role": "user", "content": "..."}, ...]}` | these messages |
| `{"conversations": [{"from": "human", "value": "..."}, ...]}` | the same; human is user, gpt is assistant |
| `{"prompt": "...", "completion": "..."}`, and the other rows of `PAIRS` | a user and an assistant; `system` before them |
| `{"prompt": [{"role": ...}], "completion": [{"role": ...}]}` | these messages; answers of the prompt have the weight 0 |
| `{"text": "..."}` | one message of the role `text`, which is no chat to be trained on |
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from ml_playground.configuration.chat_settings import MOST_WEIGHT
from ml_playground.core.registry import did_you_mean
from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.sources.jsonl_rows import RowError, kind_words

TEXT_ROLE = "text"
LISTS = ("messages", "conversations")
PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("input", "output"),
)
ALIASES = {"human": "user", "gpt": "assistant", "model": "assistant"}
TRAIN_KEYS = ("train", "training")
"""Keys of a message that say whether it is a target at all."""
_OWN_KEYS = frozenset({"role", "from", "content", "value", "weight", *TRAIN_KEYS})


def chat_of(row: Mapping[str, Any], row_id: str) -> ChatExample:
    """What a row holds, to be looked at: a chat, or a text as a chat of one message.

    Raises:
        RowError: It holds none, or a message of it has no role or no text.
    """
    if not any(key in row for key in LISTS) and _pair_of(row) is None and "text" in row:
        return ChatExample(row_id, (Message(TEXT_ROLE, text_of(row["text"], "text")),))
    return whole_chat_of(row, row_id, ("text",))


def whole_chat_of(row: Mapping[str, Any], row_id: str, others: tuple[str, ...] = ()) -> ChatExample:
    """The chat that a row holds, with all that a template may use.

    Args:
        row: The object.
        row_id: File and line.
        others: Keys by which a row may hold something else, for the message about one that holds nothing.

    Raises:
        RowError: It holds none, or a message of it has no role or no text.
    """
    for key in LISTS:
        if key in row:
            return ChatExample(row_id, with_system(row, messages_of(row[key], key)), facts_of(row, key))
    if (pair := _pair_of(row)) is not None:
        return ChatExample(row_id, with_system(row, _asked_and_answered(row, *pair)), facts_of(row, *pair))
    keys = ", ".join(repr(key[:40]) for key in list(row)[:8]) or "nothing"
    hint = next((hint for key in row if (hint := did_you_mean(key, (*LISTS, *others)))), "")
    needed = "messages, prompt and completion, or text" if others else "messages, or prompt and completion"
    raise RowError("unknown_shape", f"the row holds {keys}; it needs {needed}{hint}")


def _pair_of(row: Mapping[str, Any]) -> tuple[str, str] | None:
    return next(((prompt, answer) for prompt, answer in PAIRS if prompt in row and answer in row), None)


def facts_of(row: Mapping[str, Any], *used: str) -> dict[str, Any]:
    """What a row says beside its messages."""
    more = {"system", "input"} if used[0] == "instruction" else {"system"}
    return {key: value for key, value in row.items() if key not in more and key not in used}


def with_system(row: Mapping[str, Any], messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages, after what the row keeps as `system` beside them."""
    if not row.get("system") or (messages and messages[0].role == "system"):
        return messages
    return Message("system", text_of(row["system"], "system")), *messages


def _asked_and_answered(row: Mapping[str, Any], prompt: str, answer: str) -> tuple[Message, ...]:
    """The prompt (with an instruction's input below it), and the answer; either may be a list of messages."""
    if isinstance(row[prompt], list) and _is_messages(row[prompt]):
        asked = tuple([replace(one, weight=0.0) for one in messages_of(row[prompt], prompt)])
    else:
        text = text_of(row[prompt], prompt)
        if prompt == "instruction" and row.get("input"):
            text = f"{text}\n\n{text_of(row['input'], 'input')}"
        asked = (Message("user", text),)
    if isinstance(row[answer], list) and _is_messages(row[answer]):
        return *asked, *messages_of(row[answer], answer)
    return *asked, Message("assistant", text_of(row[answer], answer))


def _is_messages(value: list[Any]) -> bool:
    """Whether a list is one of messages, not of the parts of a text."""
    first: Any = value[0] if value else None
    return isinstance(first, dict) and bool({"role", "from"} & cast(dict[str, Any], first).keys())


def messages_of(value: Any, key: str) -> tuple[Message, ...]:
    """Messages of a list.

    Raises:
        RowError: It is none, or one of them has no role or no text.
    """
    if not isinstance(value, list):
        raise RowError("bad_message", f"{key} is {_kind(value)}, not a list of messages")
    return tuple([message_of(entry, f"{key}[{number}]") for number, entry in enumerate(cast(list[Any], value))])


def message_of(entry: Any, where: str) -> Message:
    """A message in either spelling.

    Raises:
        RowError: It has no role or no text, or says of its weight what is none.
    """
    if not isinstance(entry, dict):
        raise RowError("bad_message", f"{where} is {_kind(entry)}, not an object with role and content")
    message = cast(dict[str, Any], entry)
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if not isinstance(role, str):
        got = "no role" if role is None else f"{_kind(role)} as its role"
        raise RowError("bad_message", f"{where} has {got}")
    extra = {key: value for key, value in message.items() if key not in _OWN_KEYS}
    text = "" if content is None and extra.get("tool_calls") else text_of(content, f"{where}.content")
    return Message(ALIASES.get(role, role), text, _weight(message, where), extra)


def _weight(message: Mapping[str, Any], where: str) -> float | None:
    """Of its tokens as targets: a number, or true and false; none where it does not say."""
    given = {key: message[key] for key in ("weight", *TRAIN_KEYS) if message.get(key) is not None}
    if len(given) > 1:
        raise RowError("bad_message", f"{where} has {' and '.join(given)}, which say the same; leave one of them out")
    for key, value in given.items():
        if key in TRAIN_KEYS:
            if not isinstance(value, bool):
                raise RowError("bad_message", f"{where}.{key} is {_kind(value)}, not true or false")
            return float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_WEIGHT:
            got = value if isinstance(value, int | float) else _kind(value)
            raise RowError("bad_message", f"{where}.weight is {got}, not a number from 0 to {MOST_WEIGHT:,.0f}")
        return float(value)
    return None


def with_words(message: Message) -> Message:
    """A message as text to look at: where it is a call of a tool, that call is its text."""
    calls = message.extra.get("tool_calls")
    return message if message.content or not calls else replace(message, content=json.dumps(calls, ensure_ascii=False))


def text_of(value: Any, where: str) -> str:
    """A text, or the text parts of a list of parts.

    Raises:
        RowError: It is neither.
    """
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
