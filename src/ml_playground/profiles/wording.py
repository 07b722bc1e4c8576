"""What all profiles do with texts and messages; pure."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

from ml_playground.core.values import ChatExample, Message
from ml_playground.profiles.settings import ProfileSettings

DATE = "{date}"
ANY_DAY = r"\d{4}-\d{2}-\d{2}"
BETWEEN = "\n\n"
"""Between paragraphs that are put together."""


def prompted(
    messages: Sequence[Message], settings: ProfileSettings, today: date, marks: Mapping[str, str] | None = None
) -> tuple[Message, ...]:
    """The messages with the profile's system prompt, as `data_system_prompt` says; one of another day is replaced.

    Args:
        messages: In order; a system prompt is the first of them.
        settings: The profile's.
        today: Used where the settings name no date.
        marks: What else the prompt names in braces.
    """
    template = settings.system_prompt
    for name, text in (marks or {}).items():
        template = template.replace(name, text)
    given = tuple(messages)
    if not template:
        return given
    ours = template.replace(DATE, settings.date or today.isoformat())
    if not given or given[0].role != "system":
        return (Message("system", ours), *given)
    former = ANY_DAY.join(map(re.escape, template.split(DATE)))
    theirs = re.sub(rf"(?:\A|\n\n){former}\Z", "", given[0].content)
    match settings.data_system_prompt:
        case "keep" if theirs:
            content = given[0].content
        case "precede" if theirs:
            content = theirs + BETWEEN + ours
        case _:
            content = ours
    return (replace(given[0], content=content), *given[1:])


def is_answer(message: Message) -> bool:
    """Whether the assistant speaks to the user here; a turn that calls tools is none, nor is an empty one of the weight 0."""
    if message.role != "assistant" or message.extra.get("tool_calls"):
        return False
    return bool(message.content.strip()) or message.weight != 0


def words_of(text: str) -> str:
    """A text as it is compared: in normal form C, any white space as one blank."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def common_problems(example: ChatExample) -> list[str]:
    """What is wrong with a chat for every profile."""
    found: list[str] = []
    if not any(message.asks for message in example.messages):
        found.append("no message is the user's; there is nothing to answer")
    found += [
        f"message {number} (assistant) is empty; write an answer, or give it the weight 0"
        for number, message in enumerate(example.messages, 1)
        if is_answer(message) and message.is_empty
    ]
    return found
