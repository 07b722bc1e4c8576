"""The example of docs/models.md, as its reader would type it."""

import json
import re
from pathlib import Path

import pytest

from ml_playground.cli import main
from tests.fakes.hugging_face_folders import TEXT, saved

PAGE = Path(__file__).parents[3] / "docs" / "models.md"


@pytest.fixture(autouse=True)
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's config.toml, a text and a model; the working directory."""
    section = PAGE.read_text(encoding="utf-8").partition("## hf_causal_lm")[2]
    config = re.search(r"```toml\n# config.toml\n(.*?)```", section, re.DOTALL)
    assert config is not None
    (tmp_path / "config.toml").write_text(config[1])
    (tmp_path / "text.txt").write_text(TEXT * 3)
    saved("qwen3", tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    # As decided: measuring the machine takes longer than all the rest.
    decided = {"device": "cpu", "dtype": "float32", "attention": "math", "threads": 1, "allocator": "system"}
    decided |= {"compile": False, "activation_checkpointing": False}
    monkeypatch.setenv("ML_PLAYGROUND_OVERRIDES", json.dumps({"runtime": decided}))
    return tmp_path


def test_commands_of_the_page_work_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sample a folder, prepare, evaluate the base, train, evaluate and sample what became of it."""
    name = tmp_path.name
    few = ["--max-new-tokens", "3", "--num-samples", "1"]
    assert main(["sample", "model", "--prompt", "The three laws of", *few]) == 0
    assert main(["prepare", "."]) == 0
    capsys.readouterr()
    assert main(["evaluate", "model", "--data", "."]) == 0
    before = float(capsys.readouterr().out.splitlines()[2].split()[1])
    assert main(["train", "."]) == 0
    capsys.readouterr()
    assert main(["evaluate", name]) == 0
    after = float(capsys.readouterr().out.splitlines()[2].split()[1])
    assert after < before
    assert main(["sample", name, "--prompt", "The three laws of", *few]) == 0
