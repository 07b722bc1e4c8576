"""`mlp export` as its user meets it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ml_playground.cli import main
from ml_playground.core.run_folder import RunFolder, data_folder
from ml_playground.sampling.runner import load_run
from tests.fakes import hugging_face_folders
from tests.fakes.trained_run import TEXT, job_of, save_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with two checkpoints and averaged weights."""
    return save_run(job_of(tmp_path, tokenizer="byte_bpe"), {5: 2.0, 10: 3.0}, averaged=True)


def test_export_folder_is_the_model_for_the_library_alone(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids and logits are those of the run, averaged weights where there are some."""
    assert main(["export", "bottles"]) == 0
    shown = capsys.readouterr()
    folder = run.exports / "hugging_face"
    assert shown.err.startswith("export: loading bottles\n")
    assert f"saved: {folder}" in shown.err
    assert [line.split()[0] for line in shown.out.splitlines()] == ["compared", "token", "logits", "greedy", "end"]
    trained = load_run(run.path)
    ids = AutoTokenizer.from_pretrained(folder)(TEXT[:40]).input_ids[:16]
    assert ids == trained.tokenizer.encode(TEXT[:40])[:16]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits
        torch.testing.assert_close(logits, trained.model(torch.tensor([ids])), rtol=1e-4, atol=1e-4)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| validation loss | 2.0000 nats a token |" in card
    assert "averaged over steps, float32" in card
    assert run.id in card
    assert str(run.path) not in card


def test_export_again_needs_force(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Another checkpoint may replace an export, if asked for."""
    assert main(["export", "bottles"]) == 0
    assert main(["export", "bottles"]) == 2
    assert "replace it with --force" in capsys.readouterr().err
    arguments = ["--force", "--json", "--checkpoint", "latest", "--weights", "raw", "--dtype", "bfloat16"]
    assert main(["export", "bottles", *arguments]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["agree"], record["dtype"]) == (True, "bfloat16")
    assert record["folder"] == str(run.exports / "hugging_face")
    assert "step | 10 of 20" in (run.exports / "hugging_face" / "README.md").read_text(encoding="utf-8")


def test_export_of_a_model_from_elsewhere_needs_a_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no run; its tokenizer goes along."""
    hugging_face_folders.saved("llama", tmp_path / "base")
    assert main(["export", str(tmp_path / "base")]) == 2
    assert "name one: --out FOLDER" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "base"), "--out", str(tmp_path / "out"), "--dtype", "bfloat16"]) == 0
    assert "bfloat16     moves logits by at most" in capsys.readouterr().out
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (tmp_path / "base" / "tokenizer.json").read_bytes()


def test_export_tokenizer_without_equal_goes_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The refusal says why, and how the model is exported alone."""
    prepare = {"tokenizer": {"kind": "ngram"}, "max_loss_fraction": 0.9}
    run = save_run(job_of(tmp_path, prepare=prepare), {5: 2.0})
    assert main(["export", "bottles"]) == 2
    assert "'ngram' has no equal in the library `tokenizers`: its groups" in capsys.readouterr().err
    assert not run.exports.exists()
    assert main(["export", "bottles", "--without-tokenizer"]) == 0
    assert "not compared: the folder has no tokenizer" in capsys.readouterr().out
    assert not (run.exports / "hugging_face" / "tokenizer.json").exists()
    assert "ids mean what the run's own (ngram" in (run.exports / "hugging_face" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "hugging-face"], "--kind 'hugging-face' is no form that can be written; did you mean 'hugging_face'?"),
        (["--dtype", "int4"], "--dtype 'int4' is no type of tensors; allowed: float32, bfloat16."),
        (["--largest-file-gb", "0"], "--largest-file-gb 0 is no size of a file"),
        (["--checkpoint", "7"], "has no checkpoint of step 7"),
        (["--set", "model.n_layer=9"], "model.n_layer cannot be set here"),
        (["--set", "runtime.device=cuda"], "models are compared on the CPU"),
    ],
)  # fmt: skip
def test_export_wrong_use_is_refused(
    run: RunFolder, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """One line that says what is allowed; nothing is written."""
    assert main(["export", "bottles", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not run.exports.exists()


def test_export_without_data_compares_another_text(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint alone is enough, and the report says what was compared."""
    shutil.rmtree(data_folder())
    assert main(["export", str(run.checkpoints / "step_000010"), "--out", str(run.path / "out")]) == 0
    assert "2 rows of a text made up for it" in capsys.readouterr().out
