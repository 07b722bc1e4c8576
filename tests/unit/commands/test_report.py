"""`mlp report`, through the whole command line."""

from pathlib import Path

import pytest

from ml_playground.cli import main
from tests.fakes.run_folder import bare_run, put_rows


def test_report_writes_the_file_and_prints_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    """The path alone on stdout, so that it can be opened from there; written anew each time."""
    run = bare_run()
    run.report.write_text("old")
    put_rows(run, 10)
    assert main(["report", "tiny"]) == 0
    assert capsys.readouterr().out == f"{run.report}\n"
    assert run.report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("words", [["report"], ["analyze", "quality"]])
def test_report_of_a_model_from_elsewhere_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Its config.json is no job; nothing is written into somebody else's folder."""
    folder = tmp_path / "gpt2"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    assert main([*words, str(folder)]) == 2
    assert f"the folder {folder} is a model's, its config.json is no job" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_report_unknown_run_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written for a run that is not there."""
    bare_run()
    assert main(["report", "tinny"]) == 2
    assert "no run answers to 'tinny'" in capsys.readouterr().err
