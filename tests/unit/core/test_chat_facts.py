"""`chat.json`: what is written is read again, and what is no such file is said to be none."""

import json
from datetime import date
from pathlib import Path

import pytest

from ml_playground.core.chat_facts import NAME, ChatFacts, HeldOut, has_chat_facts, json_of, message_of, read_chat_facts
from ml_playground.core.error_handling import DataError
from ml_playground.core.values import ChatExample, Message

MESSAGES = (Message("user", "ä 1+1"), Message("assistant", "2", extra={"reasoning_content": "one and one"}))


def test_chat_facts_read_is_what_was_written(tmp_path: Path) -> None:
    """Messages keep what a template may use of them."""
    held_out = HeldOut(id="a.jsonl:3", messages=tuple(map(json_of, MESSAGES)), facts={"level": 2})
    facts = ChatFacts(
        stop_ids=(0, 7),
        template_sha256="ab",
        today=date(2026, 11, 22),
        profile={"kind": "regime3", "system": "x"},
        seed=3,
        held_out=(held_out,),
    )
    assert not has_chat_facts(tmp_path)
    (tmp_path / NAME).write_text(facts.text, encoding="utf-8")
    assert has_chat_facts(tmp_path)
    assert read_chat_facts(tmp_path) == facts
    assert read_chat_facts(tmp_path).held_out[0].example == ChatExample("a.jsonl:3", MESSAGES, {"level": 2})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"chat\.json cannot be read: No such file or directory; restore it from a copy"),
        ("{", r"chat\.json is not what describes chats: .*restore it from a copy"),
        ('{"stop_ids": [], "template_sha256": "", "today": "2026-11-22"}', r"not what describes chats: .*stop_ids"),
        ('{"stop_ids": [1], "template_sha256": "", "today": "yesterday"}', r"not what describes chats: .*today"),
    ],
)
def test_chat_facts_file_that_is_none_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    """Missing, torn, or with nothing that ends an answer: named, with what to do."""
    if content is not None:
        (tmp_path / NAME).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_chat_facts(tmp_path)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (
            [3, 10, 10**30],
            r"chat\.json is not .*: stop_ids holds 10, 1000+, and the tokenizer .* ids 0 to 9; restore it",
        ),
        ([-1], r"chat\.json is not .*: stop_ids\.0: .*greater than or equal to 0.*restore it"),
    ],
)
def test_stop_id_that_no_tokenizer_has_is_refused(tmp_path: Path, ids: list[int], message: str) -> None:
    """It would end no answer, and nobody would know why."""
    content = {"stop_ids": ids, "template_sha256": "", "today": "2026-11-22"}
    (tmp_path / NAME).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_chat_facts(tmp_path, vocab_size=10)


def test_message_without_content_is_empty() -> None:
    """A turn that calls a tool may have null in its place."""
    assert message_of({"role": "assistant", "content": None, "tool_calls": []}) == Message(
        "assistant", "", extra={"tool_calls": []}
    )
