"""docs/chats.md: its example is prepared as it stands, and it names every setting."""

import re
from pathlib import Path

import pytest

from ml_playground.commands.data import ledger
from ml_playground.commands.prepare import prepare
from ml_playground.configuration.chat_settings import ChatSettings

DOCUMENT = (Path(__file__).parents[4] / "docs" / "chats.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first block of a language."""
    return DOCUMENT.split(f"```{language}\n")[1].split("```")[0]


def test_example_is_prepared_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All spellings of rows in one file, and a tokenizer that learns."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "home"))
    (tmp_path / "chats.jsonl").write_text(block("json"), encoding="utf-8")
    (tmp_path / "config.toml").write_text(block("toml"), encoding="utf-8")
    prepare(str(tmp_path))
    ledger(str(tmp_path))
    out = capsys.readouterr().out
    assert re.search(r"^chats +5 +4 +1$", out, re.MULTILINE)
    assert re.search(r"^answers +6 +5 +1$", out, re.MULTILINE)


@pytest.mark.parametrize("name", ChatSettings.model_fields)
def test_every_setting_is_explained(name: str) -> None:
    """By its name."""
    assert re.search(rf"\b{name}\b", DOCUMENT)
