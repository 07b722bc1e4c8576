"""`mlp run` as its user meets it: four stages, one command, in one process."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.commands.run import training_is_safe
from ml_playground.core.run_folder import RunFolder, data_folder, runs_folder
from tests.fakes.tiny_job import tiny_job

CONFIG = """\
prepare.source = { kind = "text_file", path = "../text.txt" }
prepare.tokenizer = { kind = "char" }
data = { sequence_tokens = 16, micro_batch_rows = 4 }
model = { n_layer = 1, n_head = 2, n_embd = 16 }
schedule.warmup_steps = 0
train = { max_steps = 4, evaluation_batches = 1 }
sample = { prompts = ["green"], num_samples = 2, max_new_tokens = 8 }
runtime = { device = "cpu", dtype = "float32", threads = 1 }
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment of four steps."""
    folder = tmp_path / "toy"
    folder.mkdir()
    tiny_job(tmp_path)
    (folder / "config.toml").write_text(CONFIG)
    return folder


def runs_of(name: str) -> list[RunFolder]:
    """What lies on disk."""
    return [RunFolder(path) for path in sorted((runs_folder() / name).glob("*")) if path.is_dir()]


def record_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """What `mlp run ... --json` prints: one JSON object and nothing else."""
    assert main(["run", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_run_gives_texts_and_a_report(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a text to texts with one command."""
    assert main(["run", str(experiment)]) == 0
    (run,) = runs_of("toy")
    shown = capsys.readouterr()
    assert "completed: step 4 of 4" in shown.out
    assert shown.out.count("green") >= 2
    assert shown.out.endswith(f"report: {run.report}\n")
    assert "<html" in run.report.read_text(encoding="utf-8")
    assert len(list(run.samples.glob("sample_*.txt"))) == 1
    assert [f"[{number}/4]" in shown.err for number in (1, 2, 3, 4)] == [True] * 4


def test_run_again_with_other_sample_settings_draws_as_it_is_told_now(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is finished, and only the texts are new."""
    first = record_of(capsys, str(experiment))
    again = record_of(capsys, str(experiment), "--set", "sample.prompts=wall", "--set", "sample.num_samples=3")
    assert again["run"] == first["run"]
    assert len(runs_of("toy")) == 1
    assert [text[:5] for text in first["samples"]] == ["green"] * 2
    assert [text[:4] for text in again["samples"]] == ["wall"] * 3


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("ÄÖ", "The model knows no character of the prompt 'ÄÖ'"), ("FILE:no.txt", "names a file that is not there")],
)
def test_run_bad_prompt_is_refused_before_the_training(
    experiment: Path, capsys: pytest.CaptureFixture[str], prompt: str, message: str
) -> None:
    """Not after hours."""
    assert main(["run", str(experiment), "--set", f"sample.prompts={prompt}"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert runs_of("toy") == []


def test_run_sampling_that_fails_leaves_a_report(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The training is done, and can be looked at."""
    assert main(["run", str(experiment), "--set", "sample.weights=ema"]) == 2
    (run,) = runs_of("toy")
    shown = capsys.readouterr()
    assert "holds no averaged weights" in " ".join(shown.err.split())
    assert f"report: {run.report}" in shown.err
    assert run.report.is_file()


def test_run_numbers_that_give_out_are_null_and_end_with_three(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Strict readers of JSON take the output all the same, and nothing is drawn from such weights."""
    lost = ["optimizer.lr=1e30", "optimizer.eps=1e-30", "train.grad_clip=0.0"]
    assert main(["run", str(experiment), *(word for key in lost for word in ("--set", key)), "--json"]) == 3

    def refuse(word: str) -> float:
        raise ValueError(word)

    record = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert (record["reason"], record["samples"]) == ("nan", [])


def test_run_of_other_settings_is_refused_before_preparing(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A large text takes an hour to prepare; says how far the unfinished run came."""
    (run,) = [RunFolder(Path(str(record_of(capsys, str(experiment))["run"])))]
    run.result.unlink()
    other = ["--set", "model.n_embd=8", "--set", "prepare.tokenizer.kind=byte"]
    for more in ([], ["--resume", run.id]):
        assert main(["run", str(experiment), *other, *more]) == 2
        shown = capsys.readouterr()
        assert "was started with other settings and is saved at step 4:" in shown.err
        assert "locked: decides what the weights are" in shown.err
        assert "[1/4]" not in shown.err
    assert len(list(data_folder().glob("[!.]*"))) == 1


def test_run_interrupted_after_the_training_says_that_it_is_safe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody should train again because texts took too long."""
    run = RunFolder(tmp_path / "toy" / "20260101-000000-aaaa")
    with pytest.raises(KeyboardInterrupt), training_is_safe(tiny_job(tmp_path), run):
        raise KeyboardInterrupt
    assert f"The training is saved: {run.path}. To go on: mlp sample {run.id}, or" in capsys.readouterr().err


def test_run_paused_by_ctrl_c_ends_with_zero(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pause is no failure; nothing is drawn, and the report shows how far it came."""
    ready = threading.Event()

    def interrupt_once_it_trains() -> None:
        while not ready.is_set() and not any(run.metrics.is_file() for run in runs_of("toy")):
            time.sleep(0.01)
        if not ready.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt_once_it_trains)
    watcher.start()
    try:
        # So many steps would be worth compiling on a machine that is measured while it is busy.
        endless = ["--set", "train.max_steps=1000000", "--set", "runtime.compile=false"]
        record = record_of(capsys, str(experiment), *endless)
    finally:
        ready.set()
        watcher.join()
    assert (record["reason"], record["samples"]) == ("paused", [])
    assert Path(str(record["report"])).is_file()
