"""From the turns of a chat to the ids that a model reads before it answers: by the template, profile and tokenizer of its own data."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import TypeAdapter, ValidationError

from ml_playground.configuration import families
from ml_playground.configuration.base import ByKind, Component
from ml_playground.core.chat_encoding import ChatEncoder
from ml_playground.core.chat_facts import ChatFacts, read_chat_facts
from ml_playground.core.chat_template import ChatTemplate, Rendered, TemplateRefusal
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.humanise import plural
from ml_playground.core.registry import load_object
from ml_playground.core.run_schema import complaint
from ml_playground.core.tokenizer_protocol import BulkTokenizer, Tokenizer
from ml_playground.core.values import ChatExample, Message
from ml_playground.models.protocols import LogitsProcessor
from ml_playground.sampling.generate import window_start
from ml_playground.sampling.prompts import first_ids, unknown_parts

# Private use: no template trims or escapes it, and no message of a person holds it.
_MARK = "\ue000{number}\ue001"
_MARKS = re.compile("\ue000(\\d+)\ue001")
_PROFILE = TypeAdapter[Component](Annotated[Component, ByKind("profile")])


class Profile(Protocol):
    """What drawing needs of a data profile (profiles.protocol)."""

    def transform(self, example: ChatExample, index: int) -> ChatExample:
        """The chat as it was trained on."""
        ...

    def prompted(self, messages: Sequence[Message], today: date) -> tuple[Message, ...]:
        """With the profile's system prompt."""
        ...

    def logits_processors(self, tokenizer: Tokenizer, stop_ids: Collection[int]) -> Sequence[LogitsProcessor]:
        """What steers drawing an answer."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """A message, and where it is an answer that was drawn: its ids, which the model reads again as they are."""

    message: Message
    ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """What the model reads before it answers."""

    ids: Sequence[int]
    notes: Sequence[str] = ()
    """What was done that its user might not expect."""


@dataclass(frozen=True, slots=True)
class HeldOutQuestion:
    """A chat of the validation part up to its last answer, as it was prepared, and that answer."""

    messages: tuple[Message, ...]
    wanted: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChatPrompter:
    """A template, a profile and a tokenizer that belong together."""

    tokenizer: BulkTokenizer
    template: ChatTemplate
    profile: Profile
    facts: ChatFacts
    today: date
    """The day that system prompts name."""
    max_context: int | None = None

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer; they are not part of it."""
        return frozenset(self.facts.stop_ids)

    @property
    def held_out(self) -> tuple[HeldOutQuestion, ...]:
        """Those that the data keep for whoever has no question: training never saw them."""
        chats = [held_out.example for held_out in self.facts.held_out]
        return tuple(
            HeldOutQuestion(chat.messages[:-1], chat.messages[-1].content, chat.facts)
            for chat in chats
            if len(chat.messages) > 1 and chat.messages[-1].role == "assistant"
        )

    def processors(self) -> Sequence[LogitsProcessor]:
        """What the profile steers drawing with."""
        return self.profile.logits_processors(self.tokenizer, self.stop_ids)

    def dressed(self, messages: Sequence[Message], *, index: int = 0, system: str | None = None) -> tuple[Message, ...]:
        """Messages as the profile makes them for training: with its instructions, and its system prompt.

        Args:
            messages: The last is to be answered. The others stay as they are: a profile that decorates former answers would
                put words into the model's mouth.
            index: What is random in the profile depends on it.
            system: In the place of the profile's system prompt; empty: none at all.
        """
        made = self.profile.transform(ChatExample("prompt", tuple(messages)), index).messages
        dressed = (*messages[:-1], made[-1])
        if system is None:
            return tuple(self.profile.prompted(dressed, self.today))
        others = tuple(message for message in dressed if message.role != "system")
        return (Message("system", system), *others) if system else others

    def prompt(self, turns: Sequence[Turn], *, facts: Mapping[str, Any] | None = None, room: int = 1) -> ChatPrompt:
        """Ids of a chat up to where the assistant speaks; the oldest turns are left out where it is too long.

        Args:
            turns: With the messages that `dressed` made; the last is to be answered.
            facts: Of the chat; a template is given its tools.
            room: Tokens of the answer that shall fit beside it, as far as half the context.

        Raises:
            DataError: The template refuses the messages.
        """
        tools = (facts or {}).get("tools")
        limit = None if self.max_context is None else self.max_context - min(room, self.max_context // 2)
        ids, altered, kept = list[int](), False, turns
        for kept in _ever_shorter(turns):
            ids, altered = self._ids_of(kept, tools)
            if limit is None or len(ids) <= limit:
                break
        notes: list[str] = []
        if altered:
            notes.append("the template changes former answers, so the model reads them anew, not as the tokens it drew")
        if left_out := len(turns) - len(kept):
            notes.append(
                f"the chat is too long for the model's context of {self.max_context} tokens; "
                f"the oldest {plural(left_out, 'turn')} of it: left out"
            )
        return self._said(ids, notes)

    def raw(self, text: str) -> ChatPrompt:
        """Ids of a text with nothing around it; what spells a special token in it is one."""
        return self._said(ChatEncoder(self.tokenizer).ids(Rendered(text)) or first_ids(self.tokenizer), [])

    def unknown(self, text: str) -> list[str]:
        """What of a message the tokenizer does not know, in words; of most tokenizers, nothing."""
        unknown = self.tokenizer.specials.unknown
        if unknown is None or unknown not in self.tokenizer.encode(text):
            return []
        return [f"the model does not know of the message: {' '.join(map(repr, unknown_parts(text, self.tokenizer)))}"]

    def _said(self, ids: list[int], notes: list[str]) -> ChatPrompt:
        """With a note where the model reads only the end."""
        if skipped := window_start(len(ids), self.max_context):
            notes.append(
                f"the prompt has {len(ids)} tokens, more than the model's context of {self.max_context}; "
                f"only the last {len(ids) - skipped} are read"
            )
        return ChatPrompt(ids, notes)

    def _ids_of(self, turns: Sequence[Turn], tools: Any) -> tuple[list[int], bool]:
        """Ids up to where the assistant speaks, drawn answers as they were drawn; and whether the template does not allow that.

        A chat that goes on begins with the very ids that it had before: an answer may have been drawn in other tokens than
        its text is encoded in, and a cache, an evaluation and its user all mean what was drawn.
        """
        encoder = ChatEncoder(self.tokenizer)
        whole = self._rendered([turn.message for turn in turns], tools)
        drawn = {number: turn.ids for number, turn in enumerate(turns) if turn.ids is not None}
        if not drawn:
            return encoder.ids(whole), False
        marked = self._rendered(
            [
                replace(turn.message, content=_MARK.format(number=number)) if number in drawn else turn.message
                for number, turn in enumerate(turns)
            ],
            tools,
        )
        found = list(_MARKS.finditer(marked.text))
        if [int(mark[1]) for mark in found] != list(drawn) or not _is_same(whole.text, marked.text, turns):
            return encoder.ids(whole), True
        ids: list[int] = []
        end = 0
        for mark in found:
            ids += [*encoder.ids(_stretch(marked, end, mark.start())), *drawn[int(mark[1])]]
            end = mark.end()
        return [*ids, *encoder.ids(_stretch(marked, end, len(marked.text)))], False

    def _rendered(self, messages: Sequence[Message], tools: Any) -> Rendered:
        try:
            return self.template.rendered(messages, add_generation_prompt=True, tools=tools)
        except TemplateRefusal as error:
            raise DataError(f"The run's chat template does not take these messages: {error}.") from error


def load_prompter(
    tokenizer_folder: Path, tokenizer: BulkTokenizer, *, max_context: int | None = None, today: date | None = None
) -> ChatPrompter:
    """What belongs to the data of a run, from the tokenizer's folder that its checkpoints carry.

    Args:
        tokenizer_folder: It holds chat.json and the template.
        tokenizer: The one in it.
        max_context: Of the model.
        today: The day that system prompts name; none: that of preparing, which texts to compare must keep to.

    Raises:
        DataError: A file is missing or damaged.
        ConfigError: The profile cannot be built.
    """
    facts = read_chat_facts(tokenizer_folder, vocab_size=tokenizer.vocab_size)
    day = facts.today if today is None else today
    template = ChatTemplate.load(tokenizer_folder, today=day)
    try:
        settings = _PROFILE.validate_python(facts.profile or {"kind": "none"})
    except ValidationError as error:
        raise ConfigError(f"The profile of {tokenizer_folder} cannot be used: {complaint(error)}.") from error
    profile = load_object(families.PROFILES[settings.kind_name].build)(settings, facts.seed)
    return ChatPrompter(tokenizer, template, profile, facts, day, max_context)


def shown(messages: Sequence[Message]) -> str:
    """The turns as people read them, and who speaks next; the system's messages are not part of the talk."""
    lines = [f"{message.role}: {message.content}\n" for message in messages if message.role != "system"]
    return "".join([*lines, "assistant: "])


def _ever_shorter(turns: Sequence[Turn]) -> Iterator[Sequence[Turn]]:
    """All turns, then without the oldest question and its answer, and so on; the system and the last question stay."""
    turns = list(turns)
    yield turns
    while True:
        spoken = [number for number, turn in enumerate(turns) if turn.message.role != "system"]
        later = [number for number in spoken[1:] if turns[number].message.role == "user"]
        if not later:
            return
        turns = [turn for number, turn in enumerate(turns) if number >= later[0] or turn.message.role == "system"]
        yield turns


def _is_same(whole: str, marked: str, turns: Sequence[Turn]) -> bool:
    """Whether the template shows answers as they are, but for white space around them."""

    def shown(way: Callable[[str], str]) -> str:
        return _MARKS.sub(lambda mark: way(turns[int(mark[1])].message.content), marked)

    return any(shown(way) == whole for way in (str, str.strip, str.lstrip, str.rstrip))


def _stretch(rendered: Rendered, start: int, end: int) -> Rendered:
    """A part of a rendered text, with what in it only looks like a special token."""
    inside = tuple((one - start, other - start) for one, other in rendered.literal if start <= one and other <= end)
    return Rendered(rendered.text[start:end], inside)
