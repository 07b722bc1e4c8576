"""Preferences learnt by the one engine: from a random model to one that tells answers apart, exactly resumed, the reference asked once."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ml_playground.cli import main
from ml_playground.commands.random_model import TEMPLATE
from ml_playground.configuration.loading import load
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.torch_tensors import read_tensors
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.sampling.preference_pairs import open_pairs
from ml_playground.models.hugging_face.random_folder import Sizes, write_random_model
from ml_playground.training.engine import run_job
from tests.fakes.prepared_chats import prepared_chats

WORDS = [
    "red",
    "blue",
    "green",
    "tall",
    "small",
    "round",
    "soft",
    "loud",
    "quick",
    "slow",
    "warm",
    "cold",
    "dark",
    "light",
]
CONFIG = """
[prepare]
source = {{ kind = "jsonl_preference", path = "{folder}/pairs.jsonl" }}
tokenizer = {{ kind = "hugging_face", path = "{folder}/base" }}

[data]
kind = "preference_pairs"
reference = "{folder}/base"
sequence_tokens = 64
micro_batch_rows = 8

[model]
kind = "hf_causal_lm"
path = "{folder}/base"

[objective]
kind = "dpo"

[optimizer]
kind = "adamw"
lr = 2e-3

[schedule]
warmup_steps = 2

[train]
max_steps = 20
evaluate_every_steps = 10

[runtime]
dtype = "float32"
threads = 1
compile = false
flight_check = false

[hooks.console]
kind = "console"
enabled = false
"""


def random_model(folder: Path, *, vocab_size: int = 300, seed: int = 0) -> None:
    """A small one with a tokenizer and a template."""
    sizes = Sizes(width=32, layers=1, heads=2, vocab_size=vocab_size, context=128)
    write_random_model(folder, "qwen3", sizes, [" ".join(WORDS)], seed=seed, template=TEMPLATE.read_text())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, written once."""
    folder = tmp_path_factory.mktemp("model") / "base"
    random_model(folder)
    return folder


@pytest.fixture
def experiment(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pairs of which the better answer always has a word that the worse one has not."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "home"))
    shutil.copytree(base, tmp_path / "base")
    rows = []
    for number in range(120):
        words = [WORDS[(number * factor) % len(WORDS)] for factor in (1, 3, 7)]
        said = {"gladly": "chosen", "coldly": "rejected"}
        answers = {key: f"{words[1]} {word} {words[2]}" for word, key in said.items()}
        rows.append({"prompt": f"say {words[0]} {number}"} | answers)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "config.toml").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path


def stopping_after(steps: int) -> Deps:
    """A user who stops after so many steps."""
    answers = iter([False] * (steps - 1) + [True] * 1000)
    return Deps(stop_requested=lambda: next(answers))


def rows_of(run: Path) -> list[dict[str, Any]]:
    """Of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_preference_is_learnt_and_a_stopped_run_ends_with_the_same_bits(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loss of ln 2 at the first step, every pair told apart at the end; a second process goes on with the scores that are there."""
    job = load(str(experiment)).job
    prepare(job.prepare, Deps())
    whole = run_job(job, Deps())
    assert whole.metrics["accuracy"] >= 0.95 and whole.metrics["margin"] > 1 and whole.metrics["loss"] < 0.3
    # The reference is asked in the precision that this machine is fastest at, which may not be that of the run.
    assert rows_of(whole.run)[0]["values"]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    kept = list((experiment / "home" / ".cache" / "reference_scores").iterdir())
    written = kept[0].stat().st_mtime_ns
    again = job.model_copy(update={"name": "again"})
    assert run_job(again, stopping_after(7)).reason == "paused"
    stopped = run_job(again, Deps())
    assert [path.stat().st_mtime_ns for path in kept] == [written]
    for group in ("model", "optimizer"):
        one, other = (
            read_tensors(found.run / "checkpoints" / "step_000020" / f"{group}.safetensors")
            for found in (whole, stopped)
        )
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    capsys.readouterr()
    assert main(["evaluate", str(whole.run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"]["value"] >= 0.95 and found["loss"] == pytest.approx(whole.metrics["loss"], abs=1e-5)
    assert main(["evaluate", str(whole.run), "--profile"]) == 2
    assert (
        "are pairs of two answers. Without --profile it is counted how many pairs are told apart"
        in capsys.readouterr().err
    )
    assert main(["evaluate", str(experiment / "base"), "--data", str(experiment)]) == 0
    assert "model         0.6931" in capsys.readouterr().out


def test_a_run_as_the_reference_and_one_of_another_tokenizer(experiment: Path) -> None:
    """The folder of a run is asked as a model's is; one that reads other ids is named."""
    job = load(str(experiment), sets=["train.max_steps=2"]).job
    prepare(job.prepare, Deps())
    trained = run_job(job, Deps())
    beside = load(str(experiment), sets=["train.max_steps=2", f"data.reference={trained.run}"]).job
    first = run_job(beside.model_copy(update={"name": "beside"}), Deps())
    # The run has learnt something that its own beginning is now behind of.
    assert abs(rows_of(first.run)[0]["values"]["loss"] - math.log(2)) > 2e-3
    random_model(experiment / "other", vocab_size=280)
    other = load(str(experiment), sets=[f"data.reference={experiment / 'other'}"]).job
    with pytest.raises(
        DataError, match=r"reads ids of another tokenizer \(.* than the data were prepared with \(.* or name another"
    ):
        run_job(other.model_copy(update={"name": "other"}), Deps())
    nowhere = load(str(experiment), sets=["data.reference=/nowhere"]).job
    with pytest.raises(
        ConfigError, match=r"data.reference = /nowhere is no folder; name a model as the transformers library"
    ):
        run_job(nowhere.model_copy(update={"name": "nowhere"}), Deps())


def test_another_reference_under_a_run_that_began_is_noticed(experiment: Path, base: Path) -> None:
    """The numbers of its batches would be others from there on."""
    job = load(str(experiment)).job
    prepare(job.prepare, Deps())
    shutil.copytree(base, experiment / "reference")
    job = load(str(experiment), sets=[f"data.reference={experiment / 'reference'}"]).job
    assert run_job(job, stopping_after(2)).reason == "paused"
    random_model(experiment / "fresh", seed=1)
    shutil.rmtree(experiment / "reference")
    (experiment / "fresh").rename(experiment / "reference")
    with pytest.raises(
        DataError, match=r"was trained on other data \(fingerprint .*\); prepare the former data again, or start with"
    ):
        run_job(job, Deps())


@pytest.mark.parametrize(
    ("sets", "problem"),
    [
        (
            ("objective={kind='next_token'}",),
            "answer, and objective.kind = 'next_token' does not; to learn a preference set objective.kind: dpo",
        ),
        (
            ("prepare.source={kind='jsonl_chat', path='/x.jsonl'}",),
            "and prepare.source.kind = 'jsonl_chat' does not; to learn a preference set prepare.source.kind: jsonl_preference",
        ),
        (
            ("data={kind='padded_examples'}",),
            "and data.kind = 'padded_examples' does not; to learn a preference set data.kind: preference_pairs",
        ),
    ],
    ids=["objective", "source", "data"],
)
def test_parts_that_do_not_go_by_pairs_are_refused_in_one_message(
    experiment: Path, sets: tuple[str, ...], problem: str
) -> None:
    """Before anything is prepared."""
    with pytest.raises(ConfigError) as refused:
        load(str(experiment), sets=list(sets))
    assert problem in str(refused.value)


def test_chats_without_pairs_and_pairs_that_are_too_long_are_named(experiment: Path) -> None:
    """Prepared data that are no pairs, and rows that are too short: what to do about it."""
    with pytest.raises(
        DataError, match="holds chats, each by itself, and no pairs of a better and a worse answer; prepare a source"
    ):
        open_pairs(prepared_chats(experiment / "chats").folder)
    job = load(str(experiment), sets=["data.sequence_tokens=8"]).job
    prepare(job.prepare, Deps())
    with pytest.raises(
        DataError, match=r"--set data.truncation=left or right cuts off that side, drop leaves them out\."
    ):
        run_job(job, Deps())
