"""`mlp train --check` as its user meets it."""

import json
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.commands.train_check import lines
from ml_playground.core.run_folder import runs_folder
from ml_playground.training.flight_ahead import Ahead, Span
from ml_playground.training.flight_check import DiskNeed
from ml_playground.training.flight_report import FlightReport, Memory, Speed, Written
from tests.fakes.tiny_job import tiny_job

MEGABYTE = 1_000_000


def experiment_on(folder: Path, steps: int = 24) -> str:
    """A tiny experiment of its own, its data prepared."""
    experiment = folder / "mine"
    experiment.mkdir()
    tiny_job(folder)
    (experiment / "config.toml").write_text(
        'prepare.source = { kind = "text_file", path = "../text.txt" }\nprepare.tokenizer = { kind = "char" }\n'
        "data = { sequence_tokens = 16, micro_batch_rows = 4 }\nmodel = { n_layer = 1, n_head = 2, n_embd = 16 }\n"
        f"schedule.warmup_steps = 0\ntrain = {{ max_steps = {steps}, evaluation_batches = 1 }}\nruntime.threads = 1\n"
        "hooks.console.enabled = false\n"
    )
    assert main(["prepare", str(experiment)]) == 0
    return str(experiment)


def test_check_shows_a_table_and_what_to_type_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and no run."""
    experiment = experiment_on(tmp_path)
    capsys.readouterr()
    assert main(["train", experiment, "--check"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "mine: a new run, 24 steps"
    names = [line.split()[0] for line in told[1:-2]]
    assert names == ["tried", "parameters", "memory", "checkpoint", "disk", "speed", "time"]
    assert told[-2:] == ["nothing stands in its way", f"next: mlp train {experiment}"]
    assert not runs_folder().exists()


def test_check_json_is_one_object_with_all_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For scripts and queues."""
    experiment = experiment_on(tmp_path)
    capsys.readouterr()
    assert main(["train", experiment, "--check", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["experiment"], found["resumes"], found["ahead"]["steps"]) == ("mine", None, 24)
    assert found["written"]["size_bytes"] <= found["disk"]["checkpoint_bytes"]


def test_check_that_fails_ends_with_two_and_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the setting and a value that fits."""
    experiment = experiment_on(tmp_path)
    capsys.readouterr()
    wrong = ["train.max_steps=1000000", "checkpointing.every_steps=1", "checkpointing.keep_last=1000000"]
    sets = [word for text in [*wrong, "model.n_embd=256", "runtime.compile=false"] for word in ("--set", text)]
    assert main(["train", experiment, "--check", *sets]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("error:") == 1
    assert "--set checkpointing.keep_last=" in told.err
    assert list(runs_folder().rglob("*")) == []


def test_check_of_a_finished_run_has_nothing_to_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As training would have nothing to do."""
    experiment = experiment_on(tmp_path, steps=2)
    assert main(["train", experiment]) == 0
    capsys.readouterr()
    assert main(["train", experiment, "--check"]) == 0
    assert capsys.readouterr().out.startswith("nothing to check: mine/")
    assert main(["train", experiment, "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nothing_to_do"] is True
    assert main(["train", experiment, "--check", "--fresh"]) == 0
    assert f"next: mlp train {experiment} --fresh" in capsys.readouterr().out


def test_check_of_data_that_are_too_short_names_the_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is built."""
    experiment = experiment_on(tmp_path)
    capsys.readouterr()
    assert main(["train", experiment, "--check", "--set", "data.sequence_tokens=2000"]) == 2
    assert "is too short for data.sequence_tokens = 2000" in capsys.readouterr().err


def test_lines_of_a_report_say_everything() -> None:
    """Also what a device with its own memory needs of the machine, and what is only planned."""
    report = FlightReport(
        parameters=10_745_088,
        trained=104_448,
        unit="token",
        tried=("one training step",),
        memory=Memory(900 * MEGABYTE, 16_000 * MEGABYTE, measured=True),
        host=Memory(400 * MEGABYTE, None, measured=False),
        disk=DiskNeed(129 * MEGABYTE, 4, MEGABYTE, 258 * MEGABYTE),
        free_disk_bytes=50_000 * MEGABYTE,
        ahead=Ahead(5000, 20, 31, 0),
        speed=Speed(123_456.0, 8, 1.23, 0.01),
        time=Span(130.0, 110.0, 160.0),
        written=Written(128 * MEGABYTE, 0.21, 0.1),
        notes=("the model does not know the white space '\\t'",),
    )
    assert dict(lines(report)) == {
        "tried": "one training step",
        "parameters": "10,745,088, of which 104,448 trained (0.97 %)",
        "memory": "900.0 MB at its peak; 16.0 GB are there",
        "host memory": "400.0 MB at its peak, as planned",
        "checkpoint": "128.0 MB; written in 0.21 s, read in 0.10 s, the learner restored to the bit",
        "disk": (
            "259.0 MB more for the whole run (4 checkpoints at once at most, 258.0 MB of it there; metrics 1.0 MB); "
            "50.0 GB are free"
        ),
        "speed": "123 k tokens/s (8 steps timed)",
        "time": "about 2m 10s (1m 50s to 2m 40s), with 20 evaluations of 1.2 s each and at most 31 saves",
        "note": "the model does not know the white space '\\t'",
    }
