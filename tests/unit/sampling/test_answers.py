"""Answers in batches: each is what it would be alone, with its end and its probability."""

import math
from pathlib import Path

import pytest
import torch

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.values import Message
from ml_playground.sampling.answers import GREEDY, Answer, Answering, draw_answers, steering_of
from ml_playground.sampling.chat import ChatPrompter, Turn, load_prompter
from ml_playground.sampling.texts import Steering
from ml_playground.tokenization.byte import END_OF_TEXT, ByteTokenizer
from tests.fakes.chat_folder import chat_folder
from tests.fakes.forbids_last import ForbidsLast
from tests.fakes.history_model import HistoryModel

WAY = GREEDY.model_copy(update={"max_new_tokens": 12})
CHATS = [[Message("user", "x" * length)] for length in (5, 1, 9, 3, 3, 7)]


@pytest.fixture
def prompter(tmp_path: Path) -> ChatPrompter:
    """Of a run without a profile."""
    return load_prompter(chat_folder(tmp_path), ByteTokenizer())


def model_that_ends() -> HistoryModel:
    """Ends its answers often."""
    model = HistoryModel(257, None, seed=1).eval()
    model.out.data[:, END_OF_TEXT] += 2.2
    return model


def test_draw_answers_each_is_what_it_is_alone(prompter: ChatPrompter) -> None:
    """In the order of the chats, whatever the batches: in four rows at once, in two, and each by itself."""
    model = model_that_ends()
    together = list(draw_answers(model, prompter, CHATS, WAY))
    by_two = list(draw_answers(model, prompter, CHATS, WAY, rows_at_once=2))
    alone = [next(draw_answers(model, prompter, [chat], WAY)) for chat in CHATS]
    for answers in (together, by_two):
        assert [answer.ids for answer in answers] == [answer.ids for answer in alone]
        assert [answer.log_probability for answer in answers] == pytest.approx(
            [answer.log_probability for answer in alone]
        )
    assert {answer.end for answer in alone} == {"stop", "length"}


def test_draw_answers_text_ids_and_probability_belong_together(prompter: ChatPrompter) -> None:
    """One pass over prompt, answer and end gives the same log-probability; a cut answer has no end to count."""
    model = model_that_ends()
    for chat, answer in zip(CHATS, draw_answers(model, prompter, CHATS, WAY), strict=True):
        end = [END_OF_TEXT] if answer.end == "stop" else []
        prompt = list(prompter.prompt([Turn(message) for message in chat]).ids)
        logits = model(torch.tensor([[*prompt, *answer.ids, *end]])).detach().float()
        targets = [*answer.ids, *end]
        expected = sum(float(logits[0, len(prompt) + at - 1].log_softmax(-1)[id_]) for at, id_ in enumerate(targets))
        assert answer.tokens == len(targets)
        assert answer.log_probability == pytest.approx(expected, abs=1e-4)
        assert answer.confidence == pytest.approx(math.exp(expected / len(targets)), abs=1e-4)
        assert answer.text == ByteTokenizer().decode(answer.ids)


def test_draw_answers_drawn_ones_have_seeds_of_their_own(prompter: ChatPrompter) -> None:
    """Chat i has its random numbers, whatever stands before it; equal questions are answered differently."""
    model = HistoryModel(257, None).eval()
    way = SampleSettings(max_new_tokens=6, seed=3)
    answers = list(draw_answers(model, prompter, [CHATS[0]] * 3, way, rows_at_once=2))
    assert len({answer.ids for answer in answers}) == 3
    assert [answer.ids for answer in draw_answers(model, prompter, [CHATS[0]] * 3, way)] == [
        answer.ids for answer in answers
    ]


def test_draw_answers_profile_steers_unless_the_settings_say_no(tmp_path: Path) -> None:
    """The same processors as in training's preview and in `mlp sample`; their statistics come with the answer."""
    profile = {"kind": "plain_sft", "text_bias": {"~": 1000.0}}
    prompter = load_prompter(chat_folder(tmp_path, profile=profile), ByteTokenizer())
    model = HistoryModel(257, None).eval()
    steered, plain = (
        next(draw_answers(model, prompter, CHATS[:1], WAY.model_copy(update={"processors": on})))
        for on in (True, False)
    )
    assert steered.text.startswith("~")
    assert steered.statistics
    assert not plain.text.startswith("~")
    assert plain.statistics == ()
    assert steering_of(prompter, WAY).processors


def test_draw_answers_says_what_was_done_to_a_prompt(tmp_path: Path) -> None:
    """Turns that were left out come with the answer."""
    prompter = load_prompter(chat_folder(tmp_path), ByteTokenizer(), max_context=64)
    chat = [Message("user", "a" * 30), Message("assistant", "b" * 30), Message("user", "c")]
    answer = next(draw_answers(HistoryModel(257, 64).eval(), prompter, [chat], WAY))
    assert answer.notes == [
        "the chat is too long for the model's context of 64 tokens; the oldest 2 turns of it: left out"
    ]


def test_draw_answers_tools_of_each_chat_reach_the_template(tmp_path: Path) -> None:
    """Facts go with their chats."""
    prompter = load_prompter(chat_folder(tmp_path, "{{ tools or 'none' }}"), ByteTokenizer())
    model = HistoryModel(257, None).eval()
    facts = [{"tools": ["a"]}, {}, {"tools": ["b"]}]
    answers = list(draw_answers(model, prompter, CHATS[:3], WAY, facts=facts, rows_at_once=1))
    expected = [next(draw_answers(model, prompter, CHATS[:1], WAY, facts=[one])) for one in facts]
    assert [answer.ids for answer in answers] == [answer.ids for answer in expected]
    assert len({answer.ids for answer in answers}) == 3


def test_answering_gives_out_what_its_answers_say() -> None:
    """Piece by piece the text, also before its end, when it is called interrupted; the end mark is no part of it."""
    batch = Answering(
        model_that_ends(), ByteTokenizer(), [[1], [2, 3]], WAY, Steering({END_OF_TEXT}, [ForbidsLast()]), seeds=[0, 1]
    )
    shown = ["", ""]
    for pieces in batch:
        for row, text in pieces.items():
            shown[row] += text
        assert [answer.text for answer in batch.answers] == shown
    assert all(answer.end != "interrupted" for answer in batch.answers)
    assert batch.answers[0].statistics == ({"label": "no id twice", "hits": len(batch.answers[0].ids) - 1},)


def test_answering_left_early_says_so() -> None:
    """Whoever stops reading has what there was."""
    batch = Answering(HistoryModel(9, None).eval(), ByteTokenizer(), [[1]], WAY, Steering(()), seeds=[0])
    next(iter(batch))
    assert batch.answers[0].end == "interrupted"
    assert len(batch.answers[0].ids) == 1


def test_confidence_of_no_token_is_unknown() -> None:
    """Nothing was drawn, so nothing can be said."""
    assert math.isnan(Answer("", (), "interrupted", 0.0, 0).confidence)
