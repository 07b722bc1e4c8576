"""From a chat to the rows that are encoded: the profile's work, the template's, and the mask."""

from dataclasses import replace
from datetime import date
from typing import Any, cast

from ml_playground.core.foreign_files import parsed_json
from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.chats.masking import MaskedChat, Masking, only_last_answer
from ml_playground.data_pipeline.chats.protocol import ChatProfile, RowFault

TOOLS = "tools"
"""The fact that a template is given."""


class RowMaker:
    """Makes rows of chats, each for itself: the same chat, number and day give the same rows."""

    def __init__(self, masking: Masking, profile: ChatProfile | None, today: date) -> None:
        """`profile`: none leaves chats as they are."""
        self._masking = masking
        self._profile = profile
        self._today = today

    def rows(self, example: ChatExample, number: int) -> list[MaskedChat]:
        """One row, more where the template alters turns; of a preference what is better and what is worse.

        Args:
            example: As the source gave it.
            number: Its place in the source.

        Raises:
            RowFault: It cannot be trained on.
        """
        if not example.rejected:
            return self._rows(example, number, pair=False)
        better, worse = example.messages[-1], example.rejected[-1]
        if (better.content, better.extra) == (worse.content, worse.extra):
            raise RowFault("what is chosen and what is rejected are the same; leave the row out")
        pair = (
            replace(example, rejected=()),
            replace(example, messages=(*example.messages[:-1], *example.rejected), rejected=()),
        )
        chosen, rejected = (self._rows(one, number, pair=True) for one in pair)
        return [*chosen, *rejected]

    def _rows(self, example: ChatExample, number: int, *, pair: bool) -> list[MaskedChat]:
        if pair:
            example = replace(example, messages=only_last_answer(example.messages))
        messages = example.messages
        if self._profile is not None:
            example = self._profile.transform(example, number)
            if problems := self._profile.validate(example):
                raise RowFault("; ".join(problems))
            messages = self._profile.prompted(example.messages, self._today)
        added = len(messages) - len(example.messages)
        return self._masking.rows(only_last_answer(messages) if pair else messages, tools_of(example), added)


def tools_of(example: ChatExample) -> list[Any] | None:
    """The descriptions of tools that a chat brings, as JSON values; some rows hold them as a text.

    Raises:
        RowFault: They are no list.
    """
    tools: Any = example.facts.get(TOOLS)
    if isinstance(tools, str) and tools:
        try:
            tools = parsed_json(tools)
        except ValueError as error:
            raise RowFault(f"its tools are a text that is no JSON ({error}); write a list of objects") from error
    if tools and not isinstance(tools, list):
        raise RowFault("its tools are no list; write a list of objects")
    return cast(list[Any], tools) if tools else None


def table_of(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Messages as `<split>.chats` keeps them."""
    return [
        {"role": message.role, "content": message.content, **message.extra}
        | ({} if message.weight is None else {"weight": message.weight})
        for message in messages
    ]
