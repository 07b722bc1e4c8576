"""A text from a model in training: right, and without a trace."""

from pathlib import Path

import pytest
import torch

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.error_handling import DataError
from ml_playground.core.seeding import seed_for
from ml_playground.sampling.generate import generate_uncached
from ml_playground.sampling.preview import build
from ml_playground.tokenization.char import CharTokenizer
from tests.fakes.history_model import HistoryModel

LETTERS = CharTokenizer("abcdefgh")


@pytest.fixture
def attachments(tmp_path: Path) -> dict[str, Path]:
    """The tokenizer's folder, as checkpoints carry it."""
    LETTERS.save(tmp_path)
    return {"tokenizer": tmp_path}


def test_preview_text_is_what_the_settings_say(attachments: dict[str, Path]) -> None:
    """Temperature and filters of `[sample]`, length and seed of the caller, the continuation alone."""
    model = HistoryModel(9, 16)
    settings = SampleSettings(temperature=1.3, top_k=4, num_samples=7, max_new_tokens=999)
    preview = build(model, attachments, settings)
    text = preview("ab", max_new_tokens=9, seed=3)
    way = settings.model_copy(update={"max_new_tokens": 9})
    expected = [
        tokens[0].id for tokens in generate_uncached(model.eval(), [[0, 1]], way, seeds=[seed_for(3, "sample", 0, 0)])
    ]
    assert text == LETTERS.decode(expected)


def test_preview_in_training_leaves_mode_and_random_state_alone(attachments: dict[str, Path]) -> None:
    """A module that was in evaluation mode on purpose stays so; dropout draws nothing."""
    model = HistoryModel(9, 16).train()
    model.frozen = torch.nn.Dropout(0.1).eval()
    before = torch.get_rng_state()
    preview = build(model, attachments, SampleSettings())
    assert preview("a", max_new_tokens=5, seed=1) == preview("a", max_new_tokens=5, seed=1)
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)
    assert torch.equal(torch.get_rng_state(), before)


def test_preview_that_fails_restores_the_mode(attachments: dict[str, Path]) -> None:
    """A watching hook may survive its failure; the training must not go on without dropout."""
    model = HistoryModel(9, 16).train()
    model.positions.data = model.positions.data[:0]
    with pytest.raises(IndexError):
        build(model, attachments, SampleSettings())("a", max_new_tokens=5, seed=1)
    assert model.training


def test_preview_inside_autocast_computes_in_the_weights_precision(attachments: dict[str, Path]) -> None:
    """A text must not depend on whether the hook is called inside or outside of a training step."""
    preview = build(HistoryModel(9, 16).float(), attachments, SampleSettings(temperature=0.0))
    outside = preview("a", max_new_tokens=8, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert preview("a", max_new_tokens=8, seed=1) == outside


def test_preview_training_goes_on_after_it(attachments: dict[str, Path]) -> None:
    """Nothing of the model has become an inference tensor: a backward pass works and gives the same gradient."""
    model = HistoryModel(9, 16).eval()
    model(torch.tensor([[1, 2]])).sum().backward()
    expected = model.out.grad.clone()
    build(model, attachments, SampleSettings())("a", max_new_tokens=5, seed=1)
    model.zero_grad()
    model(torch.tensor([[1, 2]])).sum().backward()
    assert torch.equal(model.out.grad, expected)


@pytest.mark.parametrize(
    ("prompt", "notes"),
    [
        ("abc", []),
        ("abX", ["the model does not know these characters of the prompt 'abX': 'X'"]),
        ("XY", ["The model knows no character of the prompt 'XY' ('X' 'Y'); its tokenizer has learned others."]),
    ],
)
def test_preview_notes_say_what_its_user_might_not_expect(
    attachments: dict[str, Path], prompt: str, notes: list[str]
) -> None:
    """Before a run, not after it; also where no text could be drawn at all."""
    found = build(HistoryModel(9, 16), attachments, SampleSettings()).notes(prompt)
    assert [text.partition(" Use characters")[0] for text in found] == notes


def test_build_preview_without_tokenizer_says_so(tmp_path: Path) -> None:
    """The folder is named."""
    with pytest.raises(DataError, match=r"holds no tokenizer: tokenizer.json is missing"):
        build(HistoryModel(9, 16), {"tokenizer": tmp_path}, SampleSettings())
