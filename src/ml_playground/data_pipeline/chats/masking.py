"""Which characters of a rendered chat are targets: found by rendering the beginnings of the chat with the template itself.

What an answer adds is what stands between the prompt for it, `render(messages before it, add_generation_prompt=True)`, and
`render(messages up to it)`: what the model would have to write. It ends with the answer's end mark, the last special token of that
stretch; the line break that many templates put behind it is written by the template, never by a model, which has stopped.
No family's markers are looked for, so this holds for every template.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ml_playground.configuration.chat_settings import ChatSettings
from ml_playground.core.chat_encoding import Border
from ml_playground.core.chat_template import ChatTemplate, Rendered, TemplateRefusal
from ml_playground.core.registry import did_you_mean
from ml_playground.core.values import Message
from ml_playground.data_pipeline.chats.protocol import RowFault

ASSISTANT = "assistant"
_USUAL = ("system", "user", ASSISTANT, "tool")
_WEIGHTS: Mapping[str, Callable[[ChatSettings], float]] = {
    ASSISTANT: lambda settings: settings.assistant_weight,
    "user": lambda settings: settings.user_weight,
    "system": lambda settings: settings.system_weight,
    "developer": lambda settings: settings.system_weight,
    "tool": lambda settings: settings.tool_weight,
    "ipython": lambda settings: settings.tool_weight,
    "function": lambda settings: settings.tool_weight,
}
"""Of roles by the names that are in use; one that is not here is read only."""
EXCERPT = 40
"""Characters of a text in a message about it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A stretch of the text whose tokens are targets."""

    start: int
    end: int
    weight: float
    answer: bool
    """Whether the assistant says it, and its last token ends a turn."""


@dataclass(frozen=True, slots=True)
class MaskedChat:
    """A row to be encoded."""

    messages: tuple[Message, ...]
    rendered: Rendered
    targets: tuple[Target, ...]

    @property
    def borders(self) -> list[Border]:
        """Where targets begin and end, two for each: at the beginning of an answer a token must begin."""
        return [
            border
            for target in self.targets
            for border in (Border(target.start, hard=target.answer), Border(target.end, hard=False))
        ]


class _Chat(NamedTuple):
    """What is rendered, in the numbers of its row."""

    messages: tuple[Message, ...]
    tools: Any
    added: int
    """How many of the first messages the row does not bring itself."""

    def called(self, number: int) -> str:
        """The message of this number, counted from 0, as the row counts it."""
        return f"message {number + 1 - self.added}" if number >= self.added else "the system prompt of prepare.profile"


class Masking:
    """Renders chats and finds their targets."""

    def __init__(
        self, template: ChatTemplate, settings: ChatSettings, control: Sequence[str], marks: Sequence[str]
    ) -> None:
        """For a tokenizer.

        Args:
            template: Of the chats.
            settings: Weights, and what is done where a template alters turns.
            control: How its special tokens are spelled.
            marks: Those and other tokens that it never cuts: they end a turn where no special one does.
        """
        self._template = template
        self._settings = settings
        self._marks = [_any_of(texts) for texts in (control, marks) if texts]

    def rows(self, messages: tuple[Message, ...], tools: Any = None, added: int = 0) -> list[MaskedChat]:
        """The rows of a chat: one, and another one for each answer that the template alters once the chat goes on.

        Args:
            messages: Of the chat.
            tools: What the template is told of them.
            added: How many of the first messages the row does not bring itself; faults name messages as it counts them.

        Raises:
            RowFault: It cannot be rendered, nothing of it is a target, an answer is empty or answers nobody, has no end mark, or is
                altered by later turns.
        """
        chat = _Chat(messages, tools, added)
        whole = self._rendered(chat, len(messages))
        targets: list[Target] = []
        rows: list[MaskedChat] = []
        for number, message in enumerate(messages):
            weight = self.weight_of(message)
            if not weight:
                continue
            until = whole if number == len(messages) - 1 else self._rendered(chat, number + 1)
            target = self._target(chat, number, until, weight)
            if whole.text.startswith(until.text[: target.end]):
                targets.append(target)
            elif self._settings.altered_turns == "rows" and target.answer:
                rows.append(MaskedChat(messages[: number + 1], until, (target,)))
            else:
                raise RowFault(_altered(until.text[: target.end], whole.text, chat.called(number), message.role))
        if targets:
            rows.append(MaskedChat(messages, whole, tuple(targets)))
        if not rows:
            raise RowFault(_no_target(chat, self._settings))
        return rows

    def weight_of(self, message: Message) -> float:
        """What the row says, else what the settings give to the role."""
        if message.weight is not None:
            return message.weight
        weight = _WEIGHTS.get(message.role)
        return 0.0 if weight is None else weight(self._settings)

    def _target(self, chat: _Chat, number: int, until: Rendered, weight: float) -> Target:
        """What a message adds to the text before it."""
        message, called = chat.messages[number], chat.called(number)
        answers = message.role == ASSISTANT
        if answers:
            _check_answer(chat, number)
        # A chat begins with nothing before it; most templates cannot render no messages.
        before = self._rendered(chat, number, prompt=answers).text if number else ""
        if not until.text.startswith(before):
            raise RowFault(_disagreement(before, until.text, called, message.role))
        if not until.text[len(before) :].strip():
            raise RowFault(f"the template writes nothing of {called} ({message.role}); leave it out")
        if not answers:
            return Target(len(before), len(until.text), weight, answers)
        mark = self._end(until, len(before))
        if mark is None:
            raise RowFault(
                f"the template writes no end mark after the answer in {called} (it ends in "
                f"{until.text[-EXCERPT:]!r}), so that a model would never learn to stop; take a template that ends answers "
                "with a special token, such as {{ eos_token }}"
            )
        if not until.text[len(before) : mark[0]].strip():
            raise RowFault(_unwritten(message, called))
        return Target(len(before), mark[1], weight, answers)

    def _end(self, until: Rendered, start: int) -> tuple[int, int] | None:
        """Where the end mark of an answer begins and ends; None: there is none, or something is written after it."""
        text = until.text
        for marks in self._marks:
            ends = [
                found.span()
                for found in marks.finditer(text, start)
                if not any(first < found.end() and found.start() < last for first, last in until.literal)
            ]
            if ends and not text[ends[-1][1] :].strip():
                return ends[-1]
        return None

    def _rendered(self, chat: _Chat, size: int, *, prompt: bool = False) -> Rendered:
        """Its first messages, so many."""
        messages = chat.messages[:size]
        try:
            return self._template.rendered(messages, add_generation_prompt=prompt, tools=chat.tools)
        except TemplateRefusal as error:
            roles = ", ".join(message.role for message in messages[:8])
            raise RowFault(
                f"the template does not take these messages ({roles}): {error}{_misspelt(chat, size)}"
            ) from error


def only_last_answer(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same messages, of which the last one alone is a target."""
    return (*(replace(message, weight=0.0) for message in messages[:-1]), replace(messages[-1], weight=1.0))


def _any_of(texts: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(text) for text in sorted(texts, key=lambda text: (-len(text), text))))


def _check_answer(chat: _Chat, number: int) -> None:
    answer = chat.messages[number]
    if answer.is_empty:
        raise RowFault(_empty(chat.called(number)))
    if not any(message.asks for message in chat.messages[:number]):
        raise RowFault(
            f"{chat.called(number)} is an answer to nobody: no user's message stands before it"
            + (_misspelt(chat, number) or "; add one, or give it the weight 0")
        )


def _misspelt(chat: _Chat, size: int) -> str:
    """Of roles that only some templates know, the first that resembles a usual one: it may well be meant."""
    for number, message in enumerate(chat.messages[chat.added : size]):
        if message.role not in _WEIGHTS and (hint := did_you_mean(message.role, _USUAL)):
            return f": messages[{number}].role = {message.role!r}{hint}"
    return ""


def _empty(called: str) -> str:
    return f"{called} is an empty answer; write one, or give it the weight 0"


def _unwritten(answer: Message, called: str) -> str:
    """Of an answer of which the template writes no word."""
    if said := ", ".join(name for name, value in answer.extra.items() if value and name != "name"):
        return (
            f"the template writes nothing of the answer in {called}, which has no text but {said}; take a template that "
            "knows that, or give it the weight 0"
        )
    return _empty(called)


def _altered(before: str, whole: str, called: str, role: str) -> str:
    place = _first_difference(before, whole)
    return (
        f"the template alters earlier turns: {called} ({role}) is written as {_at(before, place)} while it is the last "
        f"one, and as {_at(whole, place)} once the chat goes on; set prepare.chat.altered_turns = 'rows', which trains such an "
        "answer in a row of its own, as it is in inference"
        + ("" if role == ASSISTANT else f"; of the role {role!r} the weight must be 0")
    )


def _disagreement(before: str, until: str, called: str, role: str) -> str:
    place = _first_difference(before, until)
    if role != ASSISTANT:
        return (
            f"the template does not write {called} ({role}) behind those before it, so that its tokens cannot be told "
            f"apart; give the role {role!r} the weight 0"
        )
    return (
        f"the template asks for {called} with {_at(before, place)} and writes {_at(until, place)} in its place, so that "
        "what a model is asked for is not what it was trained on; take a template whose prompt is the beginning of the answer's turn"
    )


def _no_target(chat: _Chat, settings: ChatSettings) -> str:
    roles = sorted({message.role for message in chat.messages})
    if ASSISTANT not in roles:
        return (
            f"no token of it would be a target: it has no answer of an assistant (roles: {', '.join(roles) or 'none'})"
            + (_misspelt(chat, len(chat.messages)) or "; add one")
        )
    if not settings.assistant_weight:
        return "no token of it would be a target, for prepare.chat.assistant_weight = 0; raise it"
    return "no token of it would be a target: each of its answers has the weight 0; give one of them another weight"


def _first_difference(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((place for place, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))


def _at(text: str, place: int) -> str:
    return repr(text[max(0, place - 8) : place + EXCERPT]) if place < len(text) else "nothing"
