"""What is wrong with a chat: who speaks when, what is said, what the answer gives away. Pure: a chat in, faults out."""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.chats.masking import ASSISTANT, only_last_answer
from ml_playground.data_pipeline.chats.protocol import RowFault
from ml_playground.data_pipeline.chats.row_making import tools_of
from ml_playground.data_pipeline.checks.degenerate import repeats_itself
from ml_playground.data_pipeline.checks.findings import Fault
from ml_playground.data_pipeline.sources.chat_rows import TEXT_ROLE

ROLES = frozenset({"system", "user", "assistant", "tool"})
LEAST_LEAK = 24
"""Characters of an answer that stands in its own question: a shorter one is a name or a choice that was asked about."""
ROLE_CHARACTERS = 40
"""Kept of a role that nobody knows."""
MOST_REMEMBERED = 32
"""Messages of a chat whose roles are remembered: longer sequences hardly come twice, and would fill the memory."""
FEW_ANSWERS = 4
"""Messages for each answer, from which on most of a chat is not learned."""
_SAYS_SOMETHING = re.compile(r"[^\W_]")


def chat_faults(chat: ChatExample) -> list[Fault]:
    """Everything that is wrong with a chat by itself."""
    messages = chat.messages
    roles = tuple([message.role if message.role in ROLES else message.role[:ROLE_CHARACTERS] for message in messages])
    contents = [message.content for message in messages]
    spoken = [content for content in contents if content.strip()]
    if roles == (TEXT_ROLE,):
        if not spoken:
            return [Fault("empty_row")]
        faults: list[Fault] = []
    else:
        faults = [*(role_faults(roles) if len(roles) <= MOST_REMEMBERED else _role_faults(roles))]
        faults += _untrainable(chat)
        if any(fault.code == "orphan_answer" for fault in faults):
            faults = [fault for fault in faults if fault.code != "starts_with_assistant"]
        if len(spoken) < len(contents):
            faults += _empty_messages(chat)
        faults += _leaks(messages)
    if spoken and not any(map(_SAYS_SOMETHING.search, spoken)):
        faults.append(Fault("no_letters"))
    for role, content in zip(roles, contents, strict=True):
        if role in {"assistant", TEXT_ROLE} and repeats_itself(content.encode("utf-8", "surrogatepass")):
            faults.append(Fault("repeats_itself", f"in the {role}'s words"))
    return faults


@lru_cache(maxsize=4096)
def role_faults(roles: tuple[str, ...]) -> tuple[Fault, ...]:
    """What is wrong with who speaks when; most chats share a few sequences of roles."""
    return tuple(_role_faults(roles))


def _role_faults(roles: tuple[str, ...]) -> Iterator[Fault]:
    if not roles:
        yield Fault("empty_row", "it has no messages")
        return
    if unknown := sorted(set(roles) - ROLES):
        yield Fault("unknown_role", ", ".join(map(repr, unknown[:4])))
    if "system" in roles[1:]:
        yield Fault("system_not_first", f"message {roles.index('system', 1) + 1} of {len(roles)}")
    spoken = [role for role in roles if role != "system"]
    twice = next((n for n, (a, b) in enumerate(pairwise(spoken)) if a == b and a in {"user", "assistant"}), None)
    if twice is not None:
        yield Fault("same_role_twice", f"{spoken[twice]}, {spoken[twice]}: {', '.join(roles[:8])}")
    if "assistant" not in spoken:
        yield Fault("no_assistant", ", ".join(roles[:8]))
        return
    if spoken[0] == "assistant":
        yield Fault("starts_with_assistant", ", ".join(roles[:8]))
    if spoken[-1] != "assistant":
        yield Fault("ends_without_answer", f"the last message is the {spoken[-1]}'s")
    if FEW_ANSWERS * spoken.count("assistant") < len(spoken):
        yield Fault("few_answers", f"{spoken.count('assistant')} of {len(spoken)} messages")


def _empty_messages(chat: ChatExample) -> Iterator[Fault]:
    messages = only_last_answer(chat.messages) if chat.rejected else chat.messages
    for number, message in enumerate(messages, 1):
        place = f"message {number} of {len(messages)}, the {message.role}'s"
        if message.role == ASSISTANT and message.is_empty and message.weight != 0:
            yield Fault("empty_answer", place)
        elif message.role != ASSISTANT and not message.content.strip():
            yield Fault("empty_message", place)


def _untrainable(chat: ChatExample) -> Iterator[Fault]:
    """What is refused when chats are prepared, by the weights that their rows give."""
    messages = only_last_answer(chat.messages) if chat.rejected else chat.messages
    asked = False
    for number, message in enumerate(messages, 1):
        asked = asked or message.asks
        if message.role == ASSISTANT and message.weight != 0 and not asked:
            yield Fault("orphan_answer", f"message {number} of {len(messages)}")
            break
    if any(message.role == ASSISTANT for message in messages) and not any(map(_is_target, messages)):
        yield Fault("nothing_trained")
    if chat.rejected:
        better, worse = messages[-1], chat.rejected[-1]
        if (better.content, better.extra) == (worse.content, worse.extra):
            yield Fault("same_answers", f"{worse.content[:60]!r}")
        if worse.is_empty:
            yield Fault("empty_answer", "the one that is rejected")
    try:
        tools_of(chat)
    except RowFault as error:
        yield Fault("bad_tools", str(error))


def _is_target(message: Message) -> bool:
    return message.role == ASSISTANT if message.weight is None else message.weight > 0


def _leaks(messages: tuple[Message, ...]) -> Iterator[Fault]:
    """An answer that its question holds, word for word."""
    for question, answer in pairwise(messages):
        if answer.role == "assistant" and question.role != "assistant":
            words = answer.content.strip()
            if len(words) >= LEAST_LEAK and words in question.content:
                yield Fault("answer_in_prompt", f"{len(words):,} characters: {words[:60]!r}")
                return
