"""docs/sweep.md: its examples run."""

import re
import shlex
from pathlib import Path

import pytest

from ml_playground.cli import main
from tests.architecture.source import ROOT
from tests.fakes.tiny_job import TEXT

CONFIG = """\
prepare.source = { kind = "text_file", path = "text.txt" }
prepare.tokenizer = { kind = "char" }
data = { sequence_tokens = 16, micro_batch_rows = 4 }
model = { n_layer = 1, n_head = 2, n_embd = 16 }
schedule.warmup_steps = 0
train = { evaluation_batches = 1 }
runtime = { device = "cpu", dtype = "float32", threads = 1, compile = false, flight_check = false }
"""


def test_page_examples_run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever copies the page gets a table."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = home / "experiments" / "toy"
    folder.mkdir(parents=True)
    (folder / "text.txt").write_text(TEXT)
    (folder / "config.toml").write_text(CONFIG)
    page = (ROOT / "docs" / "sweep.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ mlp (.*)$", page, flags=re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        # The laws are tested elsewhere: the first value of each list, and one trial, will do.
        short = re.sub(r"\[([^,\]]+),[^\]]*\]", r"[\1]", command).replace("--optuna 2", "--optuna 1")
        assert main(shlex.split(short)) == 0, command
        assert "best: optimizer.lr=" in capsys.readouterr().out
