"""docs/chats.md and the chats of README.md: their examples run as they stand, and every setting is named."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.commands.data import ledger
from ml_playground.commands.prepare import prepare
from ml_playground.configuration.chat_settings import ChatSettings

ROOT = Path(__file__).parents[4]
DOCUMENT = (ROOT / "docs" / "chats.md").read_text(encoding="utf-8")
# As decided: measuring the machine takes longer than all the rest.
DECIDED = {"device": "cpu", "dtype": "float32", "threads": 1, "compile": False, "flight_check": False}


def block(language: str, text: str = DOCUMENT) -> str:
    """The first block of a language."""
    return text.split(f"```{language}\n")[1].split("```", maxsplit=1)[0]


@pytest.fixture
def overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of its own, and a runtime that needs no deciding."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ML_PLAYGROUND_OVERRIDES", json.dumps({"runtime": DECIDED}))


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


@pytest.mark.usefixtures("overrides")
def test_example_is_trained_asked_and_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the commands of the page, in their order, to the answers that it was trained on."""
    (tmp_path / "chats.jsonl").write_text(block("json"), encoding="utf-8")
    (tmp_path / "config.toml").write_text(block("toml"), encoding="utf-8")
    assert main(["prepare", str(tmp_path)]) == 0
    section = DOCUMENT.split("From there a run is trained, asked and scored:")[1]
    lines = [line.split("#")[0].replace("FOLDER", str(tmp_path)) for line in block("sh", section).splitlines()]
    for words in map(shlex.split, lines):
        capsys.readouterr()
        if words[1] == "chat":
            assert asked(words, "2+2?\n") == "4"
        else:
            assert main(words[1:]) == 0, words
    assert re.search(r"exact match +100.0%", capsys.readouterr().out)


def asked(words: list[str], question: str) -> str:
    """What `mlp chat` answers in a pipe."""
    command = [sys.executable, "-m", "ml_playground.cli", *words[1:], "--temperature", "0"]
    return subprocess.run(
        command, input=question, capture_output=True, text=True, check=True, timeout=600
    ).stdout.strip()


@pytest.mark.usefixtures("overrides")
def test_chats_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their order, with fewer steps: the folder by a shell, then each command."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    rows = [json.dumps({"prompt": f"{n}+1?", "completion": str(n + 1)}) for n in range(20)]
    Path("chats.jsonl").write_text("\n".join(rows), encoding="utf-8")
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("**Fine-tune on your own chats.**")[1]
    lines = block("sh", text).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("mlp "))
    subprocess.run(["bash", "-ec", "\n".join(lines[:first])], check=True, timeout=600)
    for line in lines[first:]:
        words = shlex.split(line.split("#")[0].replace("max_steps=200", "max_steps=2"))
        if words[1] == "chat":
            asked(words, "1+1?\n")
        else:
            assert main(words[1:]) == 0, line
    assert "val split of my_chats: 2 questions" in capsys.readouterr().out


@pytest.mark.parametrize("name", ChatSettings.model_fields)
def test_every_setting_is_explained(name: str) -> None:
    """By its name."""
    assert re.search(rf"\b{name}\b", DOCUMENT)
