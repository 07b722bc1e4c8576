"""The first run of docs/preferences.md, as its reader would type it."""

import json
import re
import shlex
from pathlib import Path

import pytest

from ml_playground.cli import main

PAGE = Path(__file__).parents[3] / "docs" / "preferences.md"


def test_first_run_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From pairs and a random model beside their folder to the share of pairs that are told apart."""
    blocks = dict(re.findall(r"```(json|toml|sh)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    assert blocks["toml"].startswith("# polite/config.toml\n")
    (tmp_path / "polite").mkdir()
    (tmp_path / "polite" / "config.toml").write_text(blocks["toml"], encoding="utf-8")
    (tmp_path / "polite" / "pairs.jsonl").write_text(blocks["json"], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    # As decided: measuring the machine takes longer than all the rest.
    decided = {"device": "cpu", "dtype": "float32", "threads": 1, "compile": False, "flight_check": False}
    few = {"runtime": decided, "hooks": {"samples": {"max_new_tokens": 2}}}
    monkeypatch.setenv("ML_PLAYGROUND_OVERRIDES", json.dumps(few))
    for line in blocks["sh"].splitlines():
        assert main(shlex.split(line.split("#")[0])[1:]) == 0, line
    assert "told apart" in capsys.readouterr().out
