"""`mlp experiments`: the list."""

import json
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.commands.experiments import experiments
from ml_playground.commands.options import complete_experiment


def test_experiments_lists_name_data_model_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, never cut."""
    experiments()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "data", "model", "what"]
    assert lines[-1].startswith(
        "shakespeare    url_text, char           gpt 4 x 128  nanoGPT's character-level Shakespeare"
    )


def test_experiments_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs."""
    assert main(["experiments", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["experiments"]
    assert [row["name"] for row in rows] == ["digits", "mnist", "python_stdlib", "shakespeare"]
    assert all(row["shipped"] and row["error"] is None and row["what"] for row in rows)


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
    assert complete_experiment("") == ["digits", "mnist", "python_stdlib", "shakespeare"]
