"""From turns to ids and back: what a chat begins with, how it goes on, what becomes of one that is too long."""

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.core.chat_encoding import ChatEncoder
from ml_playground.core.chat_facts import NAME
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.values import Message
from ml_playground.sampling.chat import ChatPrompter, Turn, load_prompter
from ml_playground.tokenization.byte import END_OF_TEXT, ByteTokenizer
from tests.fakes.chat_folder import DAY, PLAIN, chat_folder

TRIMS = PLAIN.replace("message['content']", "message['content'] | trim")
FORGETS = PLAIN.replace("message['content']", "message['content'].split('</think>')[-1]")


@pytest.fixture(scope="module")
def prompter(tmp_path_factory: pytest.TempPathFactory) -> ChatPrompter:
    """Of a run without a profile."""
    return made(tmp_path_factory.mktemp("plain"))


def made(folder: Path, template: str = PLAIN, **more: object) -> ChatPrompter:
    """With a template of the test."""
    context = more.pop("max_context", None)
    chat_folder(folder, template, **more)  # pyright: ignore[reportArgumentType]
    return load_prompter(folder, ByteTokenizer(), max_context=context)  # pyright: ignore[reportArgumentType]


def user(text: str) -> Turn:
    """A question."""
    return Turn(Message("user", text))


def answer(ids: Sequence[int]) -> Turn:
    """One that was drawn."""
    return Turn(Message("assistant", ByteTokenizer().decode(ids)), tuple(ids))


def test_prompt_first_question_is_the_rendered_text(prompter: ChatPrompter) -> None:
    """Up to where the assistant speaks; the last id before it is that of the template's words."""
    prompt = prompter.prompt([Turn(Message("system", "Be kind.")), user("Hi")])
    assert bytes(prompt.ids) == b"system:Be kind.\nuser:Hi\nassistant:"
    assert prompt.notes == []
    assert prompter.stop_ids == {END_OF_TEXT}


def test_stop_id_beyond_the_tokenizer_beside_it_is_refused(tmp_path: Path) -> None:
    """In a folder from a stranger."""
    facts = chat_folder(tmp_path) / NAME
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"stop_ids": [9999]}))
    with pytest.raises(DataError, match=r"chat\.json is not .*stop_ids holds 9999, .* has the ids 0 to 256"):
        load_prompter(tmp_path, ByteTokenizer())


drawn_ids = st.lists(st.integers(0, 255), max_size=12)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(max_size=8), drawn_ids), min_size=1, max_size=3), st.text(max_size=8))
def test_prompt_goes_on_with_the_very_ids_that_were_drawn(
    prompter: ChatPrompter, exchanges: list[tuple[str, list[int]]], question: str
) -> None:
    """Each prompt begins with the one before it and the answer to it, also where its bytes are no text."""
    turns: list[Turn] = []
    before: list[int] = []
    for text, ids in [*exchanges, (question, [])]:
        turns.append(user(text))
        prompt = prompter.prompt(turns)
        assert list(prompt.ids[: len(before)]) == before
        assert prompt.notes == []
        before = [*prompt.ids, *ids, END_OF_TEXT]
        turns.append(answer(ids))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=3), st.text(max_size=8))
def test_prompt_of_answers_that_were_drawn_as_they_are_encoded_is_that_of_the_whole_text(
    prompter: ChatPrompter, exchanges: list[tuple[str, str]], question: str
) -> None:
    """Keeping ids changes nothing where a model writes as its tokenizer encodes, special tokens in messages included."""
    texts = [*exchanges, (f"{question}<|endoftext|>", "")]
    turns = [turn for asked, said in texts for turn in (user(asked), answer(ByteTokenizer().encode(said)))][:-1]
    rendered = prompter.template.rendered([turn.message for turn in turns], add_generation_prompt=True)
    assert list(prompter.prompt(turns).ids) == ChatEncoder(ByteTokenizer()).ids(rendered)


def test_prompt_template_that_trims_answers_still_keeps_their_ids(tmp_path: Path) -> None:
    """Many templates take white space away; what the model drew is what it reads."""
    ids = list(b"  yes ")
    prompt = made(tmp_path, TRIMS).prompt([user("a"), answer(ids), user("b")])
    assert bytes(id_ for id_ in prompt.ids if id_ < 256) == b"user:a\nassistant:  yes \nuser:b\nassistant:"
    assert prompt.notes == []


def test_prompt_template_that_forgets_thoughts_is_obeyed_and_said(tmp_path: Path) -> None:
    """Such a model was trained on chats whose former answers have no thoughts."""
    prompt = made(tmp_path, FORGETS).prompt([user("a"), answer(b"<think>hm</think>yes"), user("b")])
    assert bytes(id_ for id_ in prompt.ids if id_ < 256) == b"user:a\nassistant:yes\nuser:b\nassistant:"
    assert prompt.notes == [
        "the template changes former answers, so the model reads them anew, not as the tokens it drew"
    ]


def test_prompt_too_long_chat_loses_its_oldest_turns(tmp_path: Path) -> None:
    """The system's message and the last question stay; the answer has room, as far as half of the context."""
    prompter = made(tmp_path, max_context=64)
    turns = [Turn(Message("system", "S")), user("first"), answer(b"one"), user("second"), answer(b"two"), user("third")]
    short = prompter.prompt(turns, room=999)
    assert bytes(short.ids) == b"system:S\nuser:third\nassistant:"
    assert short.notes == [
        "the chat is too long for the model's context of 64 tokens; the oldest 4 turns of it: left out"
    ]
    longer = prompter.prompt(turns, room=3)
    assert (
        bytes(id_ for id_ in longer.ids if id_ < 256) == b"system:S\nuser:second\nassistant:two\nuser:third\nassistant:"
    )
    assert "the oldest 2 turns of it: left out" in longer.notes[0]


def test_prompt_question_that_is_too_long_alone_is_said(tmp_path: Path) -> None:
    """As of a prompt of plain text, its end is read."""
    prompt = made(tmp_path, max_context=32).prompt([user("x" * 40)])
    assert len(prompt.ids) == 56
    assert prompt.notes == ["the prompt has 56 tokens, more than the model's context of 32; only the last 22 are read"]


def test_prompt_refused_by_the_template_says_why(tmp_path: Path) -> None:
    """The template's own words."""
    refuses = "{{ raise_exception('no system here') }}"
    with pytest.raises(DataError, match=r"chat template does not take these messages: no system here\."):
        made(tmp_path, refuses).prompt([user("a")])


def test_prompt_tools_reach_the_template(tmp_path: Path) -> None:
    """What a chat's facts say of tools is what it is asked with."""
    prompt = made(tmp_path, "{% for tool in tools or [] %}{{ tool }}{% endfor %}!").prompt(
        [user("a")], facts={"tools": ["hammer"]}
    )
    assert bytes(prompt.ids) == b"hammer!"


def test_dressed_profile_adds_its_system_prompt_and_former_answers_stay(tmp_path: Path) -> None:
    """The day is that of preparing, unless another is given; an answer without marks gets none."""
    folder = chat_folder(tmp_path, profile={"kind": "regime3", "system_prompt": "On {date}."})
    messages = [Message("user", "1"), Message("assistant", "bare"), Message("user", "2")]
    prompter = load_prompter(folder, ByteTokenizer())
    dressed = prompter.dressed(messages)
    assert [message.role for message in dressed] == ["system", "user", "assistant", "user"]
    assert dressed[0].content == f"On {DAY.isoformat()}."
    assert dressed[2].content == "bare"
    assert prompter.dressed(dressed) == dressed
    later = load_prompter(folder, ByteTokenizer(), today=date(2031, 1, 2)).dressed(messages)
    assert later[0].content == "On 2031-01-02."


@pytest.mark.parametrize(("system", "roles"), [("Mine.", ["system", "user"]), ("", ["user"])])
def test_dressed_system_of_ones_own_replaces_the_profiles(tmp_path: Path, system: str, roles: list[str]) -> None:
    """An empty one is none at all."""
    prompter = made(tmp_path, profile={"kind": "plain_sft"})
    dressed = prompter.dressed([Message("system", "old"), Message("user", "1")], system=system)
    assert [message.role for message in dressed] == roles
    assert dressed[0].content in {"Mine.", "1"}


def test_load_prompter_unknown_profile_is_refused(tmp_path: Path) -> None:
    """A profile of a plugin that is not here."""
    with pytest.raises(ConfigError, match=r"The profile of .* cannot be used: .*nonsuch"):
        load_prompter(chat_folder(tmp_path, profile={"kind": "nonsuch"}), ByteTokenizer())
