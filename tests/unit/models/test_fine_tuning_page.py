"""The example of docs/fine-tuning.md, as its reader would type it."""

import json
import re
import shlex
from pathlib import Path

import pytest

from ml_playground.cli import main
from tests.fakes.hugging_face_folders import TEXT

PAGE = Path(__file__).parents[3] / "docs" / "fine-tuning.md"


def test_commands_of_the_page_work_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a random model to a merged one, which predicts as the adapter does."""
    text = PAGE.read_text(encoding="utf-8")
    config, commands = (
        re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in (r"toml\n# tune/config.toml", "console")
    )
    assert config is not None
    assert commands is not None
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune" / "config.toml").write_text(config[1])
    (tmp_path / "tune" / "text.txt").write_text(TEXT * 3)
    monkeypatch.chdir(tmp_path)
    # As decided: measuring the machine takes longer than all the rest.
    decided = {"device": "cpu", "dtype": "float32", "attention": "math", "threads": 1, "allocator": "system"}
    decided |= {"compile": False, "activation_checkpointing": False, "flight_check": False}
    few = {"runtime": decided, "sample": {"max_new_tokens": 3, "num_samples": 1}}
    monkeypatch.setenv("ML_PLAYGROUND_OVERRIDES", json.dumps(few))
    losses: list[float] = []
    for line in commands[1].splitlines():
        capsys.readouterr()
        assert main(shlex.split(line)[1:]) == 0, line
        shown = capsys.readouterr()
        if "mlp train" in line:
            said = re.search(r"parameters ([\d,]+), of which ([\d,]+) trained \((\d+) %\)", shown.err)
            assert said is not None
            assert said[0] in text
        if "mlp evaluate" in line:
            losses.append(float(shown.out.splitlines()[2].split()[1]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
