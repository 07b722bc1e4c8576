"""A chat as text, by the Jinja template that a tokenizer brings: in a sandbox, with what transformers gives to templates.

What a message says is never a mark: where it spells a special token, that stretch is remembered, and is encoded as the text it is.
"""

import hashlib
import re
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self, cast

from jinja2 import TemplateError

from ml_playground.core.bounded_sizes import written_size
from ml_playground.core.bounded_template import MOST_STEPS, STEPS, Steps, TooManySteps, with_counted_steps
from ml_playground.core.chat_environment import chat_environment
from ml_playground.core.chat_facts import TEMPLATE_NAME, read_chat_facts
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.foreign_files import read_at_most
from ml_playground.core.humanise import plural
from ml_playground.core.template_room import Room, TooLarge, rendering_in
from ml_playground.core.values import Message

# Private-use characters around what a message says in the words of a special token; transformers uses the same two.
_OPENS, _CLOSES = "\U000f0000", "\U000f0001"
_GUARDS = {ord(_OPENS): None, ord(_CLOSES): None}
_GUARDED = re.compile(f"{_OPENS}(.*?){_CLOSES}", re.DOTALL)
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which rows keep what a model thinks before it answers; templates read the first, some the second."""
MOST_TEMPLATE_BYTES = 1 << 20
_MOST_TABLES = 256
# What a template does with values of kinds that it does not expect.
_MISUSES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError)
_MOST_COUNTED = 1 << 40


@dataclass(frozen=True, slots=True)
class Rendered:
    """A chat as text."""

    text: str
    literal: tuple[tuple[int, int], ...] = ()
    """Stretches of the text that spell a special token and are none: a message said so."""


class TemplateRefusal(Exception):  # noqa: N818 - it is the template's word, not a failure of the program
    """A template cannot render these messages; the text says why."""


class ChatTemplate:
    """Renders chats; the same template, messages and day give the same text."""

    def __init__(
        self,
        text: str,
        *,
        tokens: Mapping[str, str] | None = None,
        control: Collection[str] = (),
        today: date | None = None,
    ) -> None:
        """From the text of a template.

        Args:
            text: Jinja, as chat_template.jinja is.
            tokens: The variables of special tokens: bos_token, eos_token, ...
            control: How all special tokens are spelled, which no message can write.
            today: What templates that ask for the date are told; none: the day on which they ask.

        Raises:
            ConfigError: It is no Jinja template.
        """
        self.text = text
        self._tokens = dict(tokens or {})
        self._today = today
        self._tables: dict[int, tuple[Message, Any, int]] = {}
        longest_first = sorted({token for token in control if token}, key=lambda token: (-len(token), token))
        self._control = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        try:
            text.encode()
            environment = chat_environment(self._now)
            with rendering_in(Room(len(text))):
                self._template = environment.from_string(with_counted_steps(environment, text))
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            where = f" (line {line})" if line else ""
            raise ConfigError(f"The chat template is no Jinja template: {error}{where}; correct it.") from error
        except (SyntaxError, ValueError, RecursionError) as error:
            # Jinja makes Python of it, which has limits of its own: loops within loops, digits, brackets.
            raise ConfigError(f"The chat template cannot be compiled: {error}; make it simpler.") from error

    @property
    def sha256(self) -> str:
        """Of its text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @classmethod
    def load(cls, tokenizer_folder: Path, *, today: date | None = None) -> Self:
        """The template that chats were prepared with, from their tokenizer's folder or a checkpoint's copy of it.

        Args:
            tokenizer_folder: It holds chat_template.jinja and chat.json.
            today: As for the class; the day of preparing stands in chat.json.

        Raises:
            DataError: There is none, or it is not the one that was written.
        """
        facts = read_chat_facts(tokenizer_folder)
        path = tokenizer_folder / TEMPLATE_NAME
        try:
            content = read_at_most(path, MOST_TEMPLATE_BYTES).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}; prepare the chats again.") from error
        made = cls(content, tokens=facts.tokens, control=facts.control, today=today)
        if made.sha256 != facts.template_sha256:
            raise DataError(f"{path} is not the template that the chats were prepared with; prepare them again.")
        return made

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Any] | None = None,
        **more: Any,
    ) -> str:
        """The text of a chat; see `rendered`."""
        return self.rendered(messages, add_generation_prompt=add_generation_prompt, tools=tools, **more).text

    def rendered(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Any] | None = None,
        **more: Any,
    ) -> Rendered:
        """The text of a chat, and where it only looks like a special token.

        Args:
            messages: In their order.
            add_generation_prompt: End with what stands before an answer.
            tools: Descriptions of tools, as JSON values.
            more: Other variables of the template.

        Raises:
            TemplateRefusal: The template does not take these messages.
            DataError: It goes on for so long that it may never end, or makes more than memory should hold.
        """
        tables = [self._table(message) for message in messages]
        described, more = self._guarded(list(tools)) if tools else None, self._guarded(more)
        size = sum(size for _, size in tables) + written_size([described, more], _MOST_COUNTED)
        with _refusals(plural(len(messages), "message"), room := Room(size), size), rendering_in(room):
            text = self._template.render(
                messages=[table for table, _ in tables],
                tools=described,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **{**self._tokens, **more, STEPS: Steps()},
            )
            # Half a surrogate pair, which only a template can write here, is in no vocabulary and in no file.
            text.encode()
        return _without_guards(text)

    def _table(self, message: Message) -> tuple[Any, int]:
        """A message as the template is given it, and its characters; the sandbox lets no template change it.

        Masks are found by rendering each beginning of a chat, so that each message is asked for again and again.
        """
        known = self._tables.get(id(message))
        if known is not None and known[0] is message:
            return known[1:]
        if len(self._tables) >= _MOST_TABLES:
            self._tables.clear()
        table = self._guarded(_table_of(message))
        # With the message itself, so that no other one can get its id.
        size = written_size(table, _MOST_COUNTED)
        self._tables[id(message)] = message, table, size
        return table, size

    def _guarded(self, value: Any) -> Any:
        """The same JSON value with guards around what is spelled like a special token, as transformers marks it."""
        if isinstance(value, str):
            clean = value.translate(_GUARDS) if _OPENS in value or _CLOSES in value else value
            return clean if self._control is None else self._control.sub(f"{_OPENS}\\g<0>{_CLOSES}", clean)
        if isinstance(value, Mapping):
            return {key: self._guarded(item) for key, item in cast(Mapping[str, Any], value).items()}
        if isinstance(value, list | tuple):
            return [self._guarded(item) for item in cast(Sequence[Any], value)]
        return value

    def _now(self) -> datetime:
        return datetime.now() if self._today is None else datetime(self._today.year, self._today.month, self._today.day)  # noqa: DTZ001, DTZ005 - templates ask for the local day


def _table_of(message: Message) -> dict[str, Any]:
    """A message as templates know it; what it thinks under each name that templates use."""
    table: dict[str, Any] = {"role": message.role, "content": message.content, **message.extra}
    thought = next((table[name] for name in REASONING if table.get(name) is not None), None)
    return table if thought is None else {"thinking": thought, **table, "reasoning_content": thought}


@contextmanager
def _refusals(messages: str, room: Room, size: int) -> Generator[None]:
    """What goes wrong in a rendering of so many messages, of so many characters, in words."""
    try:
        yield
    except TooManySteps as error:
        raise DataError(
            f"The chat template takes more than {MOST_STEPS:,} steps in its loops and macros over {messages}, "
            "so it may never end; correct its loops, or take another one (prepare.chat.template)."
        ) from error
    except TooLarge as error:
        raise DataError(
            f"The chat template makes more than {room.most:,} characters of {messages} (in all {size:,} characters), "
            "which no template should; correct it, or take another one (prepare.chat.template)."
        ) from error
    except MemoryError as error:
        raise TemplateRefusal("it takes more memory than there is") from error
    except TemplateError as error:
        raise TemplateRefusal(str(error).rstrip(".")) from error
    except _MISUSES as error:
        raise TemplateRefusal(f"{type(error).__name__}: {error}".rstrip(".")) from error


def _without_guards(text: str) -> Rendered:
    if _OPENS not in text and _CLOSES not in text:
        return Rendered(text)
    parts: list[str] = []
    literal: list[tuple[int, int]] = []
    length = last = 0
    for found in _GUARDED.finditer(text):
        before, inside = text[last : found.start()].translate(_GUARDS), found[1].translate(_GUARDS)
        parts += before, inside
        literal.append((length + len(before), length + len(before) + len(inside)))
        length, last = literal[-1][1], found.end()
    parts.append(text[last:].translate(_GUARDS))
    return Rendered("".join(parts), tuple(literal))
