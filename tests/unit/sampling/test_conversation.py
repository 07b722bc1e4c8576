"""A chat that goes on: what is kept, taken back, drawn anew."""

import json
from pathlib import Path

import pytest

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.error_handling import DataError
from ml_playground.core.values import Message
from ml_playground.sampling.answers import Answer
from ml_playground.sampling.chat import load_prompter
from ml_playground.sampling.conversation import Conversation
from ml_playground.tokenization.byte import END_OF_TEXT, ByteTokenizer
from tests.fakes.chat_folder import PLAIN, chat_folder, silent_model
from tests.fakes.history_model import HistoryModel

WAY = SampleSettings(max_new_tokens=5, seed=4)


def conversation(folder: Path, *, model: HistoryModel | None = None, **more: object) -> Conversation:
    """With a model of random weights."""
    prompter = load_prompter(chat_folder(folder, **more), ByteTokenizer())  # pyright: ignore[reportArgumentType]
    return Conversation((model or HistoryModel(257, None)).eval(), prompter, WAY)


def said(talk: Conversation, text: str) -> Answer:
    """Ask and keep the answer."""
    return talk.answer(text, talk.ask(text), lambda _: False)


def test_conversation_next_prompt_begins_with_what_was_read_and_drawn(tmp_path: Path) -> None:
    """The model goes on in the very ids: prompt, answer, end mark, question."""
    talk = conversation(tmp_path)
    first = talk.ask("a")
    answer = talk.answer("a", first, lambda _: False)
    after = talk.ask("b").ids
    assert list(after[: len(first.ids) + 5]) == [*first.ids, *answer.ids]
    assert bytes(after[len(first.ids) + 6 :]) == b"\nuser:b\nassistant:"
    assert after[len(first.ids) + 5] == END_OF_TEXT


def test_conversation_equal_turns_equal_answers_and_retry_differs(tmp_path: Path) -> None:
    """The seed decides; taken back and asked again, other random numbers are used; from the beginning, the same."""
    talk = conversation(tmp_path)
    first, second = said(talk, "a").ids, said(talk, "b").ids
    assert talk.undo() == "b"
    assert said(talk, "b").ids != second
    talk.reset()
    assert (said(talk, "a").ids, said(talk, "b").ids) == (first, second)


def test_conversation_undo_takes_back_a_turn_and_its_answer(tmp_path: Path) -> None:
    """Until nothing is left; then there is nothing to take back."""
    talk = conversation(tmp_path)
    first = talk.ask("a")
    said(talk, "a")
    said(talk, "b")
    assert [message.role for message in talk.messages] == ["user", "assistant"] * 2
    assert (talk.undo(), talk.undo(), talk.undo()) == ("b", "a", None)
    assert talk.messages == []
    assert talk.ask("a") == first


def test_conversation_left_early_keeps_what_there_is(tmp_path: Path) -> None:
    """An interrupted answer is read by the next turn, as far as it went."""
    talk = conversation(tmp_path)
    answer = talk.answer("a", talk.ask("a"), lambda _: True)
    assert (len(answer.ids), answer.end) == (1, "interrupted")
    assert talk.messages[-1] == Message("assistant", answer.text)


def test_conversation_answer_that_ends_at_once_is_not_kept(tmp_path: Path) -> None:
    """Nothing was said; the row would be none that can be trained on."""
    talk = conversation(tmp_path, model=silent_model())
    assert said(talk, "a").ids == ()
    assert talk.messages == []
    assert talk.undo() is None


def test_conversation_refused_turn_changes_nothing(tmp_path: Path) -> None:
    """A template that takes no second question, say."""
    template = "{% if messages | length > 2 %}{{ raise_exception('one is enough') }}{% endif %}" + PLAIN
    talk = conversation(tmp_path, template=template)
    said(talk, "a")
    before = talk.messages
    with pytest.raises(DataError, match="one is enough"):
        talk.ask("b")
    assert talk.messages == before


def test_conversation_system_can_be_changed_and_taken_away(tmp_path: Path) -> None:
    """The profile's own first; another one from the next turn on; none."""
    talk = conversation(tmp_path, profile={"kind": "plain_sft", "system_prompt": "P"})
    assert talk.system_prompt == "P"
    said(talk, "a")
    talk.system = "Q"
    assert talk.system_prompt == "Q"
    assert bytes(talk.ask("b").ids[:14]) == b"system:Q\nuser:"
    talk.system = ""
    assert talk.system_prompt == ""
    assert bytes(talk.ask("b").ids[:6]) == b"user:a"
    talk.system = None
    assert bytes(talk.ask("b").ids[:14]) == b"system:P\nuser:"


def test_conversation_row_is_a_line_of_json_with_all_messages(tmp_path: Path) -> None:
    """As it was read, system prompt included; letters stay letters."""
    talk = conversation(tmp_path, profile={"kind": "plain_sft", "system_prompt": "P"})
    answer = said(talk, "ä")
    row = talk.row()
    assert row.endswith("}\n")
    assert "ä" in row
    assert json.loads(row) == {
        "messages": [
            {"role": "system", "content": "P"},
            {"role": "user", "content": "ä"},
            {"role": "assistant", "content": answer.text},
        ]
    }


def test_conversation_profile_decorates_questions_and_leaves_answers(tmp_path: Path) -> None:
    """emoji_think asks for emojis in each of a user's turns, the same throughout, and puts none into the model's mouth."""
    talk = conversation(tmp_path, profile={"kind": "emoji_think", "emoji_fraction": 1.0})
    first = said(talk, "a")
    said(talk, "b")
    questions = [message.content for message in talk.messages if message.role == "user"]
    assert questions[0] != "a"
    assert questions[0].removeprefix("a") == questions[1].removeprefix("b")
    assert talk.messages[2] == Message("assistant", first.text)
