"""Answers that say nothing, and how faults name a message: the same whoever looks, with a profile or without one."""

from pathlib import Path
from typing import Any

import pytest

from ml_playground.core.error_handling import DataError
from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.checks.turns import chat_faults
from ml_playground.data_pipeline.sources.chat_rows import chat_of
from ml_playground.profiles.emoji_think import EmojiThinkProfile
from ml_playground.profiles.regime3 import Regime3Profile
from ml_playground.profiles.settings import EmojiThink, Regime3
from tests.fakes.chat_families import SOME, THINKING, prepared_chats

PROFILES: dict[str, dict[str, Any]] = {
    "no profile": {},
    "none": {"profile": {"kind": "none"}},
    "plain_sft": {"profile": {"kind": "plain_sft"}},
    "emoji_think": {"profile": {"kind": "emoji_think", "emoji_fraction": 1.0}},
    "regime3": {"profile": {"kind": "regime3", "answers": "text"}},
}
EMPTY = {"role": "assistant", "content": " "}
LATER = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "Four."}]
ANSWERS: dict[str, tuple[dict[str, Any], bool]] = {
    "a target": (EMPTY, True),
    "of the weight 0": (EMPTY | {"weight": 0}, False),
    "not to be trained": (EMPTY | {"train": False}, False),
    "half a target": (EMPTY | {"weight": 0.5}, True),
    "with a name": (EMPTY | {"name": "Ada"}, True),
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "home"))


def row_of(answer: dict[str, Any]) -> dict[str, Any]:
    """A chat with this answer in its middle."""
    return {"messages": [{"role": "user", "content": "2 + 2?"}, answer, *LATER]}


@pytest.mark.parametrize("answer", ANSWERS)
def test_check_of_data_refuses_the_empty_answers_that_preparing_refuses(answer: str) -> None:
    """Those that are targets, and no others."""
    row, refused = ANSWERS[answer]
    codes = {fault.code for fault in chat_faults(chat_of(row_of(row), "a:1"))}
    assert ("empty_answer" in codes) == refused


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_empty_answer_is_refused_where_it_is_a_target(tmp_path: Path, answer: str, profile: str) -> None:
    """By every profile as without one; one of the weight 0 stays empty, whatever a profile makes of answers."""
    row, refused = ANSWERS[answer]
    rows = [row_of(row), *SOME]
    if refused:
        with pytest.raises(DataError, match=r"chats\.jsonl:1: (.*; )?message 2 (is|\(assistant\)).*(empty|nothing)"):
            prepared_chats(tmp_path, rows, **PROFILES[profile])
    else:
        prepared = prepared_chats(tmp_path, rows, **PROFILES[profile])
        told = next(prepared.chats("train")).messages
        assert next(message.content for message in told if message.role == "assistant") == " "


def test_pair_may_hold_empty_answers_before_its_last_one(tmp_path: Path) -> None:
    """Only the last answer of a pair is a target, whoever looks at it."""
    before = row_of(EMPTY)["messages"]
    pair = {"prompt": before[:-1], "chosen": before[-1:], "rejected": [{"role": "assistant", "content": "Five."}]}
    others = [{"prompt": f"{n}?", "chosen": "a", "rejected": "b"} for n in range(8)]
    for profile in ("no profile", "none", "plain_sft"):
        rows = prepared_chats(tmp_path, [pair, *others], kind="jsonl_preference", **PROFILES[profile])
        assert rows.manifest.ledger.chats == 9
    example = chat_of({"messages": before}, "a:1")
    whole = ChatExample("a:1", example.messages, {}, (Message("assistant", "Five."),))
    assert "empty_answer" not in {fault.code for fault in chat_faults(whole)}


def test_faults_count_messages_as_the_row_does(tmp_path: Path) -> None:
    """A system prompt that a profile puts in moves no number."""
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "one"}, *LATER]}, *SOME]
    for profile in ("no profile", "plain_sft"):
        with pytest.raises(DataError, match=r":1: the template alters earlier turns: message 2 \(assistant\)"):
            prepared_chats(tmp_path, rows, template=THINKING, **PROFILES[profile])
    usr = [{"messages": [{"role": "usr", "content": "a"}, {"role": "assistant", "content": "b"}]}, *SOME]
    with pytest.raises(DataError, match=r"message 2 is an answer to nobody: .*messages\[0\]\.role = 'usr'"):
        prepared_chats(tmp_path, usr)


def test_answer_of_hidden_thoughts_alone_is_empty() -> None:
    """What is left of it between the emojis is nothing; of the weight 0 it stays without them."""
    profile = EmojiThinkProfile(EmojiThink(emoji_fraction=1.0), 1)
    asked, hidden = Message("user", "2 + 2?"), "<think>Hm.</think>"
    made = profile.transform(ChatExample("a", (asked, Message("assistant", hidden))), 0)
    (problem,) = profile.validate(made)
    assert problem.startswith(
        "message 2 (assistant) says nothing between its emojis (hidden thoughts are no answer); write one"
    )
    spared = profile.transform(ChatExample("a", (asked, Message("assistant", hidden, weight=0.0))), 0)
    assert spared.messages[1].content == ""
    assert profile.validate(spared) == []


def test_regime3_leaves_empty_answers_of_the_weight_0_alone() -> None:
    """There is nothing to put between marks."""
    given = ChatExample("a", (Message("user", "2 + 2?"), Message("assistant", "", weight=0.0)))
    profile = Regime3Profile(Regime3())
    assert profile.transform(given, 0) == given
    assert profile.validate(given) == []
