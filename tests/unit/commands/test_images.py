"""Images from the command line: the whole way, and what is refused."""

import json
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.core.run_folder import RunFolder, runs_folder
from tests.fakes.image_files import TEST, drawn, write_part

CONFIG = """\
prepare.source = { kind = "mnist", path = "../files", class_names = ["top", "middle", "bottom"] }
prepare.tokenizer = "none"
prepare.val_fraction = 0.25
data = { kind = "image_batches", micro_batch_rows = 16 }
model = { kind = "mnist_cnn", channels = 4, hidden = 8, dropout = 0.0 }
objective = { kind = "classify" }
optimizer.lr = 0.02
schedule.warmup_steps = 2
train = { max_steps = 60, evaluate_every_steps = 20 }
checkpointing.best_by = "accuracy"
hooks.samples.enabled = false
runtime = { device = "cpu", dtype = "float32", threads = 1 }
"""


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    """Sixty images for training and validation, nine for the test."""
    write_part(tmp_path / "files", *drawn(60))
    write_part(tmp_path / "files", *drawn(9, seed=1), part=TEST)
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "config.toml").write_text(CONFIG)
    return str(folder)


def test_run_prepares_trains_evaluates_and_reports(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a text would be sampled, images are evaluated: on the test part, which nothing was chosen by."""
    assert main(["run", experiment]) == 0
    shown = capsys.readouterr()
    (run,) = [RunFolder(path) for path in (runs_folder() / "rows").iterdir()]
    assert "images:     6 x 6, 3 classes" in shown.out
    assert "completed: step 60 of 60, validation loss" in shown.out
    assert f"next: mlp evaluate {run.id}" in shown.out
    assert "test split: 9 images, 100.00 % recognised (70.09 % to 100.00 % with 95 % confidence)" in shown.out
    assert "is \\ taken for  top  middle  bottom    recall  precision" in shown.out
    assert "top               3       .       .  100.00 %   100.00 %" in shown.out
    assert "[3/4] evaluate" in shown.err
    assert "accuracy 1  best so far" in shown.err
    assert "(best accuracy 1.0000 at step" in shown.err
    assert "test images: 100.00 % recognised" in run.report.read_text(encoding="utf-8")
    assert main(["run", experiment, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["nothing_to_do"]
    assert (record["evaluation"]["accuracy"], record["samples"]) == (1.0, [])
    assert record["evaluation"]["per_class"]["top"] == {"recall": 1.0, "precision": 1.0}


def test_commands_beside_it_know_images(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Prepare, ledger, evaluation of a split; texts are refused with what to do."""
    assert main(["prepare", experiment, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["shape"], record["class_names"]) == ([1, 6, 6], ["top", "middle", "bottom"])
    assert {split: counts["images"] for split, counts in record["splits"].items()} == {
        "train": 45,
        "val": 15,
        "test": 9,
    }
    assert main(["data", "ledger", experiment]) == 0
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines()]
    assert ["images", "69", "45", "15", "9"] in rows
    assert ["middle", "23", "15", "5", "3"] in rows
    assert "the run:    60 steps train 960 images, 21.3 epochs" in shown
    assert main(["train", experiment, "--set", "train.max_steps=2"]) == 0
    assert "next: mlp evaluate rows/" in capsys.readouterr().out
    assert main(["evaluate", "rows", "--split", "train", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["split"], record["images"], sum(map(sum, record["confusion"]))) == ("train", 45, 45)
    assert set(record["baselines"]) == {"commonest class", "nearest mean"}
    assert all("pixels" not in mistake for mistake in record["mistakes"])
    for words, message in (
        (["sample", "rows"], "tells images apart (objective.kind = 'classify') and writes no text; to see how well it"),
        (
            ["analyze", "quality", "rows"],
            "tells images apart and writes no text; to see how well it does: mlp evaluate",
        ),
        (["evaluate", "rows", "--split", "tset"], "has no split 'tset' (it has: train, val, test)"),
        (["evaluate", "rows", "--data", "digits"], "--data is for models of text"),
        (["data", "check", experiment], "has images (source.kind = 'mnist'), and what is checked here is text"),
        (["run", experiment, "--minutes", "1"], "--minutes plans models of kind gpt"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
