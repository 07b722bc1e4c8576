"""A model of the transformers library from its folder to texts, trained further: the same commands, the same promises."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ml_playground.cli import main
from ml_playground.configuration.loading import load
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, RunError
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.torch_tensors import read_tensors
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.sampling.runner import load_run
from ml_playground.training.engine import run_job
from tests.fakes.hugging_face_folders import MODELS, TEXT, VOCAB, saved

CONFIG = """
[prepare]
source = {{ kind = "text_file", path = "text.txt" }}
tokenizer = {{ kind = "hugging_face", path = "{base}" }}
val_fraction = 0.2

[data]
sequence_tokens = 16
micro_batch_rows = 4

[model]
kind = "hf_causal_lm"
path = "{base}"
{model}

[optimizer]
kind = "{optimizer}"
lr = 0.01

[schedule]
warmup_steps = 1

[train]
max_steps = 6
evaluate_every_steps = 3

[checkpointing]
every_steps = 2
keep_last = 9

[runtime]
device = "cpu"
dtype = "float32"
threads = 1
attention = "math"
activation_checkpointing = {recompute}

[hooks.samples]
kind = "samples"
every_steps = 3
prompt = "3 green"
"""


def experiment(folder: Path, kind: str, *, optimizer: str = "adamw", model: str = "", recompute: str = "false") -> Path:
    """An experiment whose model lies beside it; nothing is prepared."""
    saved(kind, folder / "base")
    (folder / "text.txt").write_text(TEXT)
    text = CONFIG.format(base="base", optimizer=optimizer, model=model, recompute=recompute)
    (folder / "config.toml").write_text(text)
    return folder


def stopping_after(steps: int) -> Deps:
    """A user who stops after so many steps."""
    answers = iter([False] * (steps - 1) + [True] * 1000)
    return Deps(stop_requested=lambda: next(answers))


def last_tensors(run: Path) -> dict[str, torch.Tensor]:
    """Everything that a run's last checkpoint holds."""
    folder = RunFolder(run).checkpoints / "step_000006"
    return {
        f"{group}/{name}": tensor
        for group in ("model", "optimizer")
        for name, tensor in read_tensors(folder / f"{group}.safetensors").items()
    }


VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {"model": "dropout = 0.2", "recompute": "true"},
    "llama": {"optimizer": "muon"},
    "qwen3": {"optimizer": "muon", "recompute": "true"},
    "gemma": {},
    "gemma2": {},
}


@pytest.mark.parametrize("kind", MODELS)
def test_run_that_was_stopped_ends_with_the_same_bits_and_its_checkpoint_needs_no_base(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact resume with dropout, Muon and recomputation; then the base folder goes, and the run is sampled all the same."""
    job = load(str(experiment(tmp_path / "run", kind, **VARIANTS[kind]))).job
    prepare(job.prepare, Deps())
    first = run_job(job, stopping_after(3))
    assert (first.reason, first.step) == ("paused", 3)
    stopped = last_tensors(run_job(job, Deps()).run)
    whole = last_tensors(run_job(job.model_copy(update={"name": "whole"}), Deps()).run)
    assert stopped.keys() == whole.keys()
    assert [name for name in whole if not torch.equal(whole[name], stopped[name])] == []
    tied = any(name.endswith("lm_head.weight") for name in whole)
    assert tied == (kind == "llama")

    shutil.rmtree(tmp_path / "run" / "base")
    loaded = load_run("whole", which=6)
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(parameter, whole[f"model/{name}"])
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "whole", "--prompt", "3 green", "--max-new-tokens", "4", "--num-samples", "1"]) == 0


def test_changed_base_is_noticed_when_the_run_is_started_again(tmp_path: Path) -> None:
    """Whoever goes on with `mlp train` gets the model that the run began with, or is told."""
    folder = experiment(tmp_path, "gpt2")
    job = load(str(folder)).job
    prepare(job.prepare, Deps())
    run_job(job, stopping_after(3))
    saved("gpt2", folder / "base", seed=1)
    with pytest.raises(RunError, match=r"model.files_sha256: saved '[0-9a-f]{64}', wanted '[0-9a-f]{64}' \(locked\)"):
        run_job(load(str(folder)).job, Deps())


@pytest.mark.parametrize("kind", MODELS)
def test_model_overfits_one_text(kind: str, tmp_path: Path) -> None:
    """Gradients reach what has to learn: hundreds of choices become one, but for the first of each row."""
    folder = experiment(tmp_path, kind)
    sets = [
        "train.max_steps=60",
        "checkpointing.every_steps=none",
        "train.evaluate_every_steps=60",
        "hooks.samples.enabled=false",
    ]
    job = load(str(folder), sets=[*sets, "optimizer.lr=0.02"]).job
    (tmp_path / "text.txt").write_text("3 green bottles, hanging on the wall;\n" * 40)
    prepare(job.prepare, Deps())
    assert run_job(job, Deps()).metrics["loss"] < 0.2


def test_evaluation_is_the_librarys_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a model that was never trained here, over the data of an experiment."""
    folder = experiment(tmp_path, "llama")
    job = load(str(folder)).job
    prepared = prepare(job.prepare, Deps())
    assert (
        main(["evaluate", str(folder / "base"), "--data", str(folder), "--json", "--set", "runtime.dtype=float32"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    theirs = AutoModelForCausalLM.from_pretrained(folder / "base")
    tokens = torch.from_numpy(np.fromfile(prepared.folder / "val.tokens", dtype=np.uint16).astype(np.int64))
    nats = targets = 0.0
    for start in range(0, len(tokens) - 1, 16):
        window = tokens[None, start : start + 17]
        with torch.no_grad():
            nats += float(theirs(window, labels=window).loss) * (window.shape[1] - 1)
        targets += window.shape[1] - 1
    assert found["targets"] == targets
    assert found["model"]["loss"] == pytest.approx(nats / targets, rel=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma"])
def test_sample_of_a_folder_is_the_text_that_the_library_writes(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompt to ids with the marks of its tokenizer, greedy tokens, ids to text."""
    # Ids beyond the tokenizer's are never drawn here, and written as nothing there: the model has none.
    saved(kind, tmp_path / "base", vocab_size=VOCAB)
    words = ["--prompt", "3 green", "--temperature", "0", "--num-samples", "1", "--max-new-tokens", "12"]
    assert main(["sample", str(tmp_path / "base"), *words]) == 0
    shown = capsys.readouterr()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    ids = theirs.generate(
        **tokenizer("3 green", return_tensors="pt"), do_sample=False, max_new_tokens=12, pad_token_id=0
    )
    assert shown.out.rstrip("\n") == tokenizer.decode(ids[0], skip_special_tokens=True).rstrip("\n")
    assert shown.err.startswith(f"{tmp_path / 'base'}, step 0 (cpu, float32)\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["evaluate", "base"],
            "was not trained here and has no data of its own; name an experiment .* --data EXPERIMENT",
        ),
        (["evaluate", "base", "--data", "."], "are not prepared"),
        (["sample", "base", "--weights", "ema"], "holds no averaged weights"),
        (["sample", "base", "--checkpoint", "5"], "has no steps, so step 5 cannot be taken; leave out --checkpoint"),
        (["sample", "base", "--engine", "llama_cpp"], "runs models of kind 'gpt' only"),
        (["sample", "base", "--set", "model.dropout=0.1"], "model.dropout cannot be set here"),
        (["sample", "pickle"], "only as a pickle"),
        (["config", "check", "nowhere.toml"], r"model\.path: \S+gone is no folder; name one with a config.json"),
    ],
)
def test_wrong_use_is_refused_in_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its user can mend ends with 2 and says what to do."""
    folder = experiment(tmp_path, "gpt2")
    shutil.copytree(folder / "base", folder / "pickle")
    (folder / "pickle" / "model.safetensors").rename(folder / "pickle" / "pytorch_model.bin")
    (folder / "nowhere.toml").write_text(
        (folder / "config.toml").read_text().replace('path = "base"\n', 'path = "gone"\n')
    )
    monkeypatch.chdir(folder)
    assert main(words) in (1, 2)
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_rows_that_the_model_cannot_read_are_refused_before_preparing(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which may take minutes."""
    folder = experiment(tmp_path, kind)
    assert main(["run", str(folder), "--set", "data.sequence_tokens=1000000"]) == 2
    said = capsys.readouterr().err
    assert re.search(
        r"data.sequence_tokens = 1000000 is longer than what the model reads at once, (\d+); use data.sequence_tokens = \1 or less",
        said,
    )
    assert "prepare:" not in said


def test_data_of_another_tokenizer_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its ids mean other texts."""
    folder = experiment(tmp_path, "llama")
    prepare(load(str(folder)).job.prepare, Deps())
    saved("gpt2", tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    content = json.loads(file.read_text())
    ids = content["model"]["vocab"]
    ids["e"], ids["a"] = ids["a"], ids["e"]
    file.write_text(json.dumps(content))
    assert main(["evaluate", str(tmp_path / "other"), "--data", str(folder)]) == 2
    assert "were prepared with another tokenizer" in capsys.readouterr().err


def test_what_the_folder_says_is_shown_as_read_from_it(tmp_path: Path) -> None:
    """`mlp config show` names where each value comes from."""
    origins = load(str(experiment(tmp_path, "gpt2"))).origins
    assert origins["model.config"][-1].where == "read from what another key names"
    assert origins["model.dropout"][-1].where == "class default"


def test_base_that_is_exchanged_between_reading_and_loading_is_refused(tmp_path: Path) -> None:
    """The job that is recorded must name what is trained."""
    folder = experiment(tmp_path, "gpt2")
    job = load(str(folder)).job
    prepare(job.prepare, Deps())
    saved("gpt2", folder / "base", seed=1)
    with pytest.raises(ConfigError, match="are not those that the job names"):
        run_job(job, Deps())
