"""docs/profiles.md: its profile of one's own is prepared with, and its grammar is the parser's."""

import json
import re
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.profiles import grammar

PAGE = (Path(__file__).parents[3] / "docs" / "profiles.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The page's only block in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return found


def test_profile_of_ones_own_is_used(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What is prepared is what it made."""
    (tmp_path / "plugin.py").write_text(block("python"), encoding="utf-8")
    (tmp_path / "config.toml").write_text(block("toml"), encoding="utf-8")
    assert main(["prepare", str(tmp_path), "--json"]) == 0
    folder = Path(json.loads(capfd.readouterr().out)["folder"])
    rows = [json.loads(line) for line in (folder / "train.chats").read_text(encoding="utf-8").splitlines()]
    assert rows
    assert all(row["messages"][1]["content"].startswith("(IS (") for row in rows)


def test_grammar_on_the_page_is_that_of_the_parser() -> None:
    """But for how blanks are written."""
    rules = [line.strip() for line in (grammar.__doc__ or "").splitlines() if line.endswith(" ;")]
    assert len(rules) == 8
    assert [rule for rule in rules if not rule.startswith("blanks") and rule not in PAGE] == []
