"""Rows of JSON Lines as chats and preferences, in every spelling that is in use; what is none is named."""

from typing import Any

import pytest

from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.sources.chat_rows import whole_chat_of
from ml_playground.data_pipeline.sources.jsonl_rows import RowError
from ml_playground.data_pipeline.sources.preference_rows import preference_of

ASKED, SAID = Message("user", "2+2?"), Message("assistant", "4")
CHAT = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CHAT},
        {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
        {"prompt": "2+2?", "completion": "4"},
        {"prompt": "2+2?", "response": "4"},
        {"question": "2+2?", "answer": "4"},
        {"instruction": "2+2?", "input": "", "output": "4"},
        {"input": "2+2?", "output": "4"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "2+2?"}]}, CHAT[1]]},
    ],
)
def test_spellings_of_one_chat_are_one_chat(row: dict[str, Any]) -> None:
    """Messages, ShareGPT, prompt and completion, Alpaca: the same user, the same assistant."""
    assert whole_chat_of(row, "a.jsonl:1") == ChatExample("a.jsonl:1", (ASKED, SAID))


def test_row_keeps_what_templates_and_evaluations_use() -> None:
    """System prompts beside the messages, an instruction's input, tools and levels, calls, thoughts and names."""
    alpaca = whole_chat_of({"instruction": "Add.", "input": "2 and 2", "output": "4", "system": "Be brief."}, "x")
    assert alpaca.messages == (Message("system", "Be brief."), Message("user", "Add.\n\n2 and 2"), SAID)
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "add"}], "reasoning_content": "hm"}
    row = {"messages": [CHAT[0], call, {"role": "tool", "name": "add", "content": "4"}], "tools": [1], "level": 3}
    chat = whole_chat_of(row, "x")
    assert chat.messages[1] == Message(
        "assistant", "", extra={"tool_calls": [{"name": "add"}], "reasoning_content": "hm"}
    )
    assert chat.messages[2] == Message("tool", "4", extra={"name": "add"})
    assert chat.facts == {"tools": [1], "level": 3}


def test_prompt_of_messages_has_no_targets() -> None:
    """What stands before the completion was asked, whoever said it."""
    row = {"prompt": [*CHAT, CHAT[0]], "completion": [CHAT[1]]}
    assert [message.weight for message in whole_chat_of(row, "x").messages] == [0.0, 0.0, 0.0, None]


@pytest.mark.parametrize(
    ("said", "weight"),
    [({"weight": 0.5}, 0.5), ({"weight": 0}, 0.0), ({"train": True}, 1.0), ({"training": False}, 0.0), ({}, None)],
)
def test_weight_of_a_message_is_what_the_row_says(said: dict[str, Any], weight: float | None) -> None:
    """A number, or true and false; without a word the settings decide."""
    assert whole_chat_of({"messages": [CHAT[0], CHAT[1] | said]}, "x").messages[1].weight == weight


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"content": "x"}]}, r"messages\[0\] has no role"),
        ({"messages": [{"role": 3, "content": "x"}]}, r"messages\[0\] has a number as its role"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\].content is missing, not text"),
        ({"messages": {"role": "user"}}, r"messages is an object, not a list of messages"),
        ({"messages": ["x"]}, r"messages\[0\] is a text, not an object with role and content"),
        ({"messages": [CHAT[0] | {"weight": -1}]}, r"messages\[0\].weight is -1, not a number from 0 to 1,000,000"),
        (
            {"messages": [CHAT[0] | {"weight": 1e300}]},
            r"messages\[0\].weight is 1e\+300, not a number from 0 to 1,000,000",
        ),
        (
            {"messages": [CHAT[0] | {"weight": "1"}]},
            r"messages\[0\].weight is a text, not a number from 0 to 1,000,000",
        ),
        ({"messages": [CHAT[0] | {"train": 1}]}, r"messages\[0\].train is a number, not true or false"),
        ({"messages": [CHAT[0] | {"train": True, "weight": 1}]}, "has weight and train, which say the same"),
        ({"text": "x"}, "the row holds 'text'; it needs messages, or prompt and completion"),
        ({"mesages": CHAT}, "did you mean 'messages'"),
    ],
)
def test_row_that_is_no_chat_says_what_it_lacks(row: dict[str, Any], message: str) -> None:
    """By the place in the row."""
    with pytest.raises(RowError, match=message):
        whole_chat_of(row, "x")


WORSE = {"role": "assistant", "content": "5"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?", "chosen": "4", "rejected": "5"},
        {"question": "2+2?", "chosen": "4", "rejected": "5"},
        {"prompt": [CHAT[0]], "chosen": [CHAT[1]], "rejected": [WORSE]},
        {"messages": [CHAT[0]], "chosen": CHAT[1], "rejected": WORSE},
        {"chosen": CHAT, "rejected": [CHAT[0], WORSE]},
        {"prompt": "2+2?", "chosen": CHAT, "rejected": [CHAT[0], WORSE]},
        {
            "conversations": [{"from": "human", "value": "2+2?"}],
            "chosen": {"from": "gpt", "value": "4"},
            "rejected": WORSE,
        },
    ],
)
def test_spellings_of_one_preference_are_one_preference(row: dict[str, Any]) -> None:
    """Texts, messages, whole chats: one prompt, a better answer and a worse one."""
    assert preference_of(row, "x") == ChatExample("x", (ASKED, SAID), {}, (Message("assistant", "5"),))


def test_equal_answers_keep_their_prompt() -> None:
    """The last message is the answer, also where both chats are one."""
    assert preference_of({"chosen": CHAT, "rejected": CHAT}, "x").rejected == (SAID,)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x", "chosen": "4"}, "the row has no rejected; a preference needs both"),
        ({"prompt": "x"}, "the row has no chosen and no rejected"),
        ({"chosen": "4", "rejected": "5"}, "the row has no prompt beside chosen and rejected"),
        (
            {"chosen": [*CHAT, *CHAT], "rejected": [CHAT[0], WORSE]},
            "chosen adds assistant, user, assistant to the prompt",
        ),
        ({"prompt": "x", "chosen": "4", "rejected": []}, "rejected adds nothing to the prompt"),
    ],
)
def test_row_that_is_no_preference_says_what_it_lacks(row: dict[str, Any], message: str) -> None:
    """Both answers, one prompt, one message each."""
    with pytest.raises(RowError, match=message):
        preference_of(row, "x")
