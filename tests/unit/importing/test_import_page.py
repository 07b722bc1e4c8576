"""docs/import.md: its example runs, and its report is the real one."""

import re
import shlex
from pathlib import Path

import pytest

from ml_playground.cli import main
from tests.architecture.source import ROOT

PAGE = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The page's one block in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return found


def test_page_example_runs_and_reports_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever copies the page gets what it promises."""
    monkeypatch.chdir(tmp_path)
    Path("train_mine.py").write_text(block("python"))
    for line in block("console").splitlines():
        command, _, target = line.removeprefix("$ mlp ").partition(" > ")
        assert main(shlex.split(command)) == 0, line
        shown = capsys.readouterr()
        if target:
            Path(target).write_text(shown.out)
            assert shown.err.strip() == block("text").strip()
