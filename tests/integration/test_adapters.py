"""An adapter on a model from elsewhere, from its folder to a merged one: the same commands, the same promises."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ml_playground.cli import main
from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import CheckpointError, RunError
from ml_playground.core.run_folder import RunFolder, runs_folder
from ml_playground.core.torch_tensors import read_tensors
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.export.backup import kept
from ml_playground.models.hugging_face.folder import files_sha256
from ml_playground.sampling.runner import load_run
from ml_playground.training.engine import run_job
from ml_playground.training.resume import choose_run
from tests.fakes.hugging_face_folders import TEXT, VOCAB, saved

CONFIG = """
[prepare]
source = { kind = "text_file", path = "text.txt" }
tokenizer = { kind = "hugging_face", path = "base" }
val_fraction = 0.2

[data]
sequence_tokens = 16
micro_batch_rows = 4

[model]
kind = "hf_causal_lm"
path = "base"
adapter = { kind = "lora", r = 4, dropout = 0.2 }

[optimizer]
kind = "adamw"
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
activation_checkpointing = false

[hooks.samples]
kind = "samples"
every_steps = 3
prompt = "3 green"
"""


def prepared(folder: Path, kind: str, *sets: str) -> JobConfig:
    """An experiment whose base lies beside it, and its data."""
    # Without ids beyond the tokenizer's, which are written as nothing there: the model has none.
    saved(kind, folder / "base", vocab_size=VOCAB)
    (folder / "text.txt").write_text(TEXT)
    (folder / "config.toml").write_text(CONFIG)
    job = load(str(folder), sets=sets).job
    prepare(job.prepare, Deps())
    return job


def stopping_after(steps: int) -> Deps:
    """A user who stops after so many steps."""
    answers = iter([False] * (steps - 1) + [True] * 1000)
    return Deps(stop_requested=lambda: next(answers))


def last_tensors(run: Path) -> dict[str, torch.Tensor]:
    """Everything that a run's last checkpoint holds."""
    folder = RunFolder(run).checkpoints / "step_000006"
    groups = [file.name.removesuffix(".safetensors") for file in folder.glob("*.safetensors")]
    return {
        f"{group}/{name}": tensor
        for group in groups
        for name, tensor in read_tensors(folder / f"{group}.safetensors").items()
    }


VARIANTS: dict[str, tuple[str, ...]] = {
    "gpt2": ("runtime.activation_checkpointing=true", "train.ema_decay=0.5"),
    "llama": ("optimizer.kind=muon", "model.adapter.targets=['q_proj','v_proj']", "runtime.dtype=bfloat16"),
    "qwen3": ("model.adapter.dora=true", "runtime.dtype=bfloat16"),
}


@pytest.mark.parametrize("kind", VARIANTS)
def test_run_that_was_stopped_ends_with_the_same_bits_and_keeps_what_is_trained_alone(
    kind: str, tmp_path: Path
) -> None:
    """With dropout, means of weights, Muon, recomputation and a base in bfloat16; the base is as it was."""
    job = prepared(tmp_path, kind, *VARIANTS[kind])
    before = files_sha256(tmp_path / "base")
    first = run_job(job, stopping_after(3))
    assert (first.reason, first.step) == ("paused", 3)
    stopped = last_tensors(run_job(job, Deps()).run)
    whole = last_tensors(run_job(job.model_copy(update={"name": "whole"}), Deps()).run)
    assert stopped.keys() == whole.keys()
    assert [name for name in whole if not torch.equal(whole[name], stopped[name])] == []
    assert all(".lora_" in name for name in whole)
    assert {tensor.dtype for tensor in whole.values()} == {torch.float32}
    assert files_sha256(tmp_path / "base") == before


def test_start_says_what_share_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever names too many targets sees it in the first line."""
    run_job(prepared(tmp_path, "qwen3", "train.max_steps=1"), Deps())
    assert re.search(r"parameters 1\d,\d{3}, of which [\d,]+ trained \(\d+ %\)", capsys.readouterr().err)


def test_run_goes_on_and_is_read_where_its_base_was_moved_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same files in another place are the same base, for training, sampling, evaluating and merging; others are not."""
    job = prepared(tmp_path, "llama")
    run = RunFolder(run_job(job, stopping_after(3)).run)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").rename(tmp_path / "moved")
    few = ["--prompt", "3 green", "--max-new-tokens", "3", "--num-samples", "1"]
    for words in (["sample", run.id, *few], ["evaluate", run.id], ["merge", run.id]):
        capsys.readouterr()
        assert main(words) == 2
        assert re.search(
            r"base is no folder.* which no checkpoint holds; bring it back, or say", capsys.readouterr().err
        )
        assert main([*words, "--set", "model.path=moved"]) == 0
    assert main(["evaluate", run.id, "--set", "model.dropout=0.1"]) == 2
    assert re.search(r"model.dropout cannot be set here.*, model.path\.", capsys.readouterr().err)

    moved = load(str(tmp_path), sets=["model.path=moved"]).job
    assert run_job(moved, Deps()).run == run.path
    saved("llama", tmp_path / "moved", seed=1, vocab_size=VOCAB)
    assert main(["sample", run.id, *few]) == 2
    assert "The adapter is one of another base" in capsys.readouterr().err
    with pytest.raises(RunError, match=r"model.files_sha256: saved '[0-9a-f]{64}'.* \(locked\)"):
        choose_run(load(str(tmp_path), sets=["model.path=moved"]).job, runs_folder(), named=run)


@pytest.mark.parametrize(
    ("kind", "sets"), [("gpt2", ("train.ema_decay=0.5",)), ("qwen3", ("model.adapter.dora=true",))]
)
def test_merged_folder_writes_what_the_adapter_does(
    kind: str, sets: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Opened by the library alone, and sampled here; the proof names the files that were merged, and what came of it."""
    run = RunFolder(run_job(prepared(tmp_path, kind, *sets), Deps()).run)
    capsys.readouterr()
    assert main(["merge", run.id, "--json"]) == 0
    shown = capsys.readouterr()
    said: dict[str, Any] = json.loads(shown.out)
    folder = run.exports / "merged"
    assert said.pop("folder") == str(folder)
    assert said.pop("backup") is None
    assert json.loads((folder / "parity.json").read_text()) == said
    assert said["agree"]
    assert max(said["largest_difference"], said["merging"]) < said["allowed_difference"] < 0.01
    assert said["sha256"]["base"] == files_sha256(tmp_path / "base")
    assert said["sha256"]["folder"] == files_sha256(folder)
    assert said["sha256"].keys() >= {"adapter/model", *(["adapter/ema"] if "train" in sets[0] else [])}

    adapter = load_run(run.id).model
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)("3 green bottles")["input_ids"]])
    logits = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
    torch.testing.assert_close(logits, adapter(ids), rtol=1e-4, atol=1e-4)
    words = ["--prompt", "3 green", "--temperature", "0", "--num-samples", "1", "--max-new-tokens", "8"]
    texts: list[str] = []
    for target in (run.id, str(folder)):
        capsys.readouterr()
        assert main(["sample", target, *words]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


def test_merge_keeps_what_stood_there_and_refuses_what_it_must_not_touch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each merge leaves the former folder beside the new one; a base, a run without an adapter and strange folders are left alone."""
    run = run_job(prepared(tmp_path, "llama", "train.max_steps=2"), Deps()).run
    name = RunFolder(run).id
    monkeypatch.chdir(tmp_path)
    for number in (0, 1, 2):
        capsys.readouterr()
        assert main(["merge", name, "--out", "merged", *(["--dtype", "bfloat16"] if number == 0 else [])]) == 0
        kept_line = f"kept:  {tmp_path / 'merged'}.backup-{number}" if number else "next:  mlp sample"
        told = capsys.readouterr().err
        assert told.startswith(f"merge: loading {name} and its base\n")
        assert kept_line in told
    assert json.loads((tmp_path / "merged.backup-1" / "parity.json").read_text())["dtype"] == "bfloat16"
    assert json.loads((tmp_path / "merged.backup-2" / "parity.json").read_text())["dtype"] == "float32"
    (tmp_path / "strange").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "base")
    (tmp_path / "strange" / "notes.txt").write_text("mine")
    checkpoint = str(RunFolder(run).checkpoints / "step_000002")
    for words, message in (
        (["merge", name, "--out", "base"], "is the base that the model was trained from .*name another folder"),
        (["merge", name, "--out", "link"], "link is the base that the model was trained from"),
        (["merge", name, "--out", "."], r"holds the checkpoint \(.*, which is read for it .* would replace it"),
        (["merge", name, "--out", "base/merged"], "lies in the base that .* stays as it is"),
        (["merge", name, "--out", str(RunFolder(run).path)], "holds the checkpoint"),
        (["export", name, "--out", "link", "--force"], "link is the base that the model was trained from"),
        (["merge", name, "--out", "strange"], "holds no model .* left alone"),
        (["merge", name, "--out", "text.txt"], "is a file; name a folder"),
        (["merge", name, "--dtype", "int8"], "'int8' is no type of tensors; allowed: float32, bfloat16"),
        (["merge", "base", "--out", "x"], "base has no adapter .* mlp export base --kind hugging_face"),
        (["merge", checkpoint], "is no run, so there is no place .* --out FOLDER"),
    ):
        assert main(words) == 2, words
        assert re.search(message, capsys.readouterr().err.replace("\n", " ")), words
    assert (tmp_path / "strange" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "x").exists()


def refused_over(folder: Path) -> None:
    """A replacement that comes to nothing."""
    with kept(folder) as backup:
        assert backup is not None
        assert (backup / "config.json").read_text() == "old"
        raise CheckpointError("They disagree.")


def test_backup_goes_where_nothing_was_replaced(tmp_path: Path) -> None:
    """A merge that is refused leaves the folder as it was, and no copy of it."""
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "config.json").write_text("old")
    with pytest.raises(CheckpointError, match="They disagree"):
        refused_over(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["merged", "config.json"]
    with kept(folder) as backup:
        shutil.rmtree(folder)
    assert backup is not None
    assert (backup / "config.json").read_text() == "old"
