"""Unit tests of `mlp random-model`."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ml_playground.cli import main
from ml_playground.models.hugging_face.random_folder import FAMILIES


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_library_opens_what_is_written(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Model and tokenizer of one vocabulary; a chat ends with the mark that ends a text drawn from it."""
    folder = tmp_path / "model"
    words = ["--family", family, "--width", "16", "--layers", "1", "--heads", "2", "--vocab", "300", "--context", "64"]
    assert main(["random-model", str(folder), *words]) == 0
    shown = capsys.readouterr().out
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert shown.startswith(f"{folder}: {family} with ")
    assert f"next: mlp run EXPERIMENT --set model.path={folder} --set prepare.tokenizer.path={folder} " in shown
    assert len(tokenizer) == model.config.vocab_size == 300
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Just so."}], return_dict=True
    )["input_ids"]
    assert tokenizer.decode(ids) == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nJust so.<|im_end|>\n"
    assert ids.count(tokenizer.eos_token_id) == 2
    assert model(input_ids=torch.tensor([ids])).logits.shape == (1, len(ids), 300)


def test_equal_seeds_equal_weights_and_a_tokenizer_learns_from_a_text(tmp_path: Path) -> None:
    """The settings have an effect."""
    text = tmp_path / "text.txt"
    text.write_text("abracadabra " * 50, encoding="utf-8")
    small = ["--width", "16", "--heads", "2", "--vocab", "300"]
    for name, more in {"a": [], "b": [], "c": ["--seed", "1"], "d": ["--text", str(text)]}.items():
        assert main(["random-model", str(tmp_path / name), *small, *more]) == 0
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abcd"}
    assert weights["a"] == weights["b"] != weights["c"]
    assert len(AutoTokenizer.from_pretrained(tmp_path / "d").encode("abracadabra ")) <= 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--width", "18", "--heads", "4"], "A width of 18 cannot be dealt out to 4 heads of an even width each."),
        (["--vocab", "100"], "A vocabulary of 100 is too small: bytes and marks take 259."),
        (["--text", "nowhere.txt"], "nowhere.txt cannot be read as a text: "),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_left(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and no folder."""
    assert main(["random-model", str(tmp_path / "model"), *words]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_never_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may hold somebody's model."""
    assert main(["random-model", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} is there already; name another folder, or remove it.\n"
