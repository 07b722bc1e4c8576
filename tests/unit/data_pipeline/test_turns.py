"""Chats as nobody should write them: what a check remembers of them stays small, and none is taken for another one."""

import pytest

from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.checks.turns import MOST_REMEMBERED, chat_faults, role_faults
from tests.unit.data_pipeline.test_checks import chat, of_rows


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    """Each test begins with an empty memory."""
    role_faults.cache_clear()


def chat_of(*roles: str) -> ChatExample:
    """A chat of these roles."""
    return ChatExample("0", tuple(Message(role, "words") for role in roles))


def test_role_of_any_length_is_told_in_a_few_characters() -> None:
    """A megabyte of a role would fill the screen of whoever reads about it."""
    faults = chat_faults(chat_of("r" * 1_000_000))
    assert [fault.code for fault in faults] == ["unknown_role", "no_assistant"]
    assert all(len(fault.note) < 50 for fault in faults)


def test_roles_that_only_begin_alike_are_remembered_once() -> None:
    """What is remembered of a role is what is told of it: memory does not grow with what a file says."""
    for number in range(5):
        chat_faults(chat_of("r" * 1000 + str(number)))
    assert role_faults.cache_info().currsize == 1


def test_long_sequence_of_roles_is_judged_and_not_remembered() -> None:
    """It hardly comes twice."""
    (fault,) = chat_faults(chat_of(*["user", "assistant"] * MOST_REMEMBERED, "user"))
    assert fault.code == "ends_without_answer"
    assert role_faults.cache_info().currsize == 0


def test_message_that_quotes_a_chat_is_no_copy_of_that_chat() -> None:
    """Or the quarantine would take one of them for the other, and the clean file would lack it."""
    quoted = chat("u:Hi\nassistant: Hello\nuser: And you", "a:Fine")
    assert of_rows([quoted, chat("u:Hi", "a:Hello", "u:And you", "a:Fine")]).findings == ()
