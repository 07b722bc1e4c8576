"""`mlp experiments`: the list."""

import json
import re
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.commands.experiments import experiments
from ml_playground.commands.options import complete_experiment
from ml_playground.configuration.loading import SHIPPED

NAMES = sorted(file.parent.name for file in SHIPPED.glob("*/config.toml"))


def test_experiments_lists_name_data_model_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, never cut."""
    experiments()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "name"
    cells = {line.split()[0]: re.split(r" {2,}", line)[1:] for line in lines[: len(NAMES) + 1]}
    assert cells["name"] == ["data", "model", "needs a file", "what"]
    assert cells["shakespeare"][:3] == ["url_text, char", "gpt 4 x 128", "-"]
    assert cells["shakespeare"][3].startswith("nanoGPT's character-level Shakespeare")
    assert cells["bundestag_char"][:3] == ["csv_text, ngram", "gpt 6 x 384", "prepare.source.path"]
    assert lines[-1] == "What needs a file is told so: mlp run bundestag_char --set prepare.source.path=FILE"


def test_experiments_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs."""
    assert main(["experiments", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["experiments"]
    assert [row["name"] for row in rows] == NAMES
    assert all(row["shipped"] and row["error"] is None and row["what"] for row in rows)
    assert {row["name"]: row["needs"] for row in rows}["got_char"] == ["prepare.source.path"]


def test_experiments_broken_own_one_does_not_hide_the_others(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is listed, with the reason below."""
    folder = home / "experiments" / "a_broken"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("seed = -1\n")
    experiments()
    text = capsys.readouterr().out
    assert "a_broken" in text.splitlines()[1]
    assert "shakespeare" in text
    assert "a_broken does not load:\n" in text
    assert "seed cannot be -1" in text


def test_completion_offers_experiments_that_begin_so() -> None:
    """What the shell asks for at the tab key."""
    assert complete_experiment("sh") == ["shakespeare"]
    assert complete_experiment("") == NAMES
