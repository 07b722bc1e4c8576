"""Previews of a training on chats: asked with its template, its profile and its processors."""

from pathlib import Path

import pytest
import torch

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.chat_facts import HeldOut
from ml_playground.core.values import Message
from ml_playground.sampling.answers import draw_answers
from ml_playground.sampling.chat import load_prompter
from ml_playground.sampling.preview import build
from ml_playground.tokenization.byte import ByteTokenizer
from tests.fakes.chat_folder import chat_folder
from tests.fakes.history_model import HistoryModel

GREEDY = SampleSettings(temperature=0.0)
HELD_OUT = [
    HeldOut(id="a", messages=({"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"})),
    HeldOut(id="b", messages=({"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"})),
]


def test_preview_prompt_is_a_users_turn(tmp_path: Path) -> None:
    """The answer is that of an evaluation of the same question, and the model is left as it was."""
    folder = chat_folder(tmp_path, profile={"kind": "plain_sft"})
    model = HistoryModel(257, None).train()
    text = build(model, {"tokenizer": folder}, GREEDY)("Hi", max_new_tokens=9, seed=1)
    prompter = load_prompter(folder, ByteTokenizer())
    chat = prompter.dressed([Message("user", "Hi")])
    answer = next(draw_answers(model.eval(), prompter, [chat], GREEDY.model_copy(update={"max_new_tokens": 9})))
    assert text == f"\nassistant: {answer.text}"


def test_preview_leaves_no_trace_in_the_training(tmp_path: Path) -> None:
    """Neither mode nor random numbers."""
    model = HistoryModel(257, None).train()
    before = torch.get_rng_state()
    build(model, {"tokenizer": chat_folder(tmp_path)}, SampleSettings())("Hi", max_new_tokens=3, seed=1)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_preview_blank_prompt_asks_held_out_questions(tmp_path: Path) -> None:
    """Each with its answer and what would be right, drawn as if it were the only one."""
    preview = build(HistoryModel(257, None), {"tokenizer": chat_folder(tmp_path, held_out=HELD_OUT)}, GREEDY)
    alone = [preview(question, max_new_tokens=5, seed=1).removeprefix("\n") for question in ("1+1", "2+2")]
    assert preview("\n", max_new_tokens=5, seed=1) == (
        f"user: 1+1\n{alone[0]}\nwanted: 2\nuser: 2+2\n{alone[1]}\nwanted: 4"
    )
    assert preview.notes("\n") == []


def test_preview_processors_of_the_profile_steer_it_unless_switched_off(tmp_path: Path) -> None:
    """The same as everywhere: text_bias of the profile has an effect, and sample.processors takes it away."""
    folder = chat_folder(tmp_path, profile={"kind": "plain_sft", "text_bias": {"~": 1000.0}})
    texts = [
        build(HistoryModel(257, None), {"tokenizer": folder}, GREEDY.model_copy(update={"processors": on}))(
            "Hi", max_new_tokens=3, seed=1
        )
        for on in (True, False)
    ]
    assert texts[0].startswith("\nassistant: ~")
    assert not texts[1].startswith("\nassistant: ~")


def test_preview_notes_say_what_cannot_be_asked(tmp_path: Path) -> None:
    """A question longer than the context; a file that is not there; a template that refuses."""
    model = HistoryModel(257, 16)
    preview = build(model, {"tokenizer": chat_folder(tmp_path)}, GREEDY)
    assert "more than the model's context of 16" in preview.notes("x" * 40)[0]
    assert "names a file that is not there" in preview.notes("FILE:/nowhere")[0]
    refuses = build(model, {"tokenizer": chat_folder(tmp_path / "b", "{{ raise_exception('no') }}")}, GREEDY)
    assert refuses.notes("Hi") == ["The run's chat template does not take these messages: no."]


@pytest.mark.parametrize("held_out", [[], HELD_OUT[:1]])
def test_preview_blank_prompt_without_held_out_questions_is_an_empty_turn(
    tmp_path: Path, held_out: list[HeldOut]
) -> None:
    """Data prepared without any; else they are asked."""
    preview = build(HistoryModel(257, None), {"tokenizer": chat_folder(tmp_path, held_out=held_out)}, GREEDY)
    assert preview("\n", max_new_tokens=2, seed=1).startswith("user: 1+1" if held_out else "\nassistant: ")
