"""`mlp analyze quality`: on runs and files, against training texts, and used wrongly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ml_playground.cli import main
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.split_text import split_text
from tests.fakes.trained_run import TEXT, job_of, save_run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run with a checkpoint and two files of samples, the newer one copied from the training text."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path))
    run = save_run(job_of(tmp_path), {5: 2.0})
    run.samples.mkdir()
    copied = TEXT[41:141]
    (run.samples / "sample_000004_a.txt").write_text("Something else altogether.\n")
    (run.samples / "sample_000005_b.txt").write_text(f"{copied}\n---------------\nzyx wvu never seen before\n")
    return run


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What the command says as JSON."""
    assert main(["analyze", "quality", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_quality_of_a_run_finds_what_its_newest_samples_copy(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compared with the run's own training text; the words that it never saw are named."""
    record = found(capsys, "bottles", "--copy-characters", "30")
    assert record["texts"] == 2
    longest = record["copied"]["copies"][0]
    assert longest["text"] == 0
    assert longest["length"] >= 99
    assert "".join(split_text(next((run.path.parents[2] / "data").glob("*/dataset.json")).parent, "train"))[
        longest["source"] :
    ].startswith(longest["stretch"])
    assert set(record["copied"]["unknown_words"]) >= {"zyx", "wvu"}
    assert 0.7 < record["copied"]["share"] < 0.85
    assert record["copied"]["held_out_share"] > 0


def test_quality_of_a_run_is_kept_and_shown_in_its_report(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """What the terminal shows stands in the report, escaped."""
    (run.samples / "sample_000009_c.txt").write_text("<b>bold</b> hanging on\n")
    assert main(["analyze", "quality", "bottles"]) == 0
    shown = capsys.readouterr()
    assert f"saved: {run.quality}; shown in {run.report}" in shown.err
    assert "odd:       unfinished (1)" in shown.out
    page = run.report.read_text()
    assert "What the samples are like" in page
    assert "&lt;b&gt;bold" in page
    assert json.loads(run.quality.read_text())["summary"] == shown.out.rstrip("\n").split("\n")


def test_quality_all_looks_at_every_file(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON that mlp sample wrote among them."""
    (run.samples / "sample_000006_d.json").write_text(json.dumps({"texts": [{"prompt": "green ", "text": "bottles."}]}))
    assert found(capsys, "bottles", "--all")["texts"] == 4


def test_quality_of_a_file_needs_no_run(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Copies are looked for only when a run is named; nothing is written."""
    file = tmp_path / "mine.txt"
    file.write_text("Sprecher: Anna\nJahr: 1999\n\n99 green bottles, hanging on the wall;\n")
    record = found(capsys, str(file))
    assert record["copied"] is None
    assert record["headers"]["years"] == {"1999": 1}
    assert "no --against RUN" in record["notes"][0]
    assert found(capsys, str(file), "--against", "bottles", "--copy-characters", "30")["copied"]["share"] > 0
    assert not run.quality.exists()


def test_quality_without_the_data_says_so(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """What can be seen without them is still shown."""
    (run.path.parents[2] / "data").rename(run.path.parents[2] / "moved")
    record = found(capsys, "bottles")
    assert record["copied"] is None
    assert "copies were not looked for: The data of 'bottles' are not prepared" in record["notes"][0]


def empty_file(folder: Path) -> str:
    """A file without text."""
    (folder / "empty.txt").write_text(" \n")
    return str(folder / "empty.txt")


def wrong_json(folder: Path) -> str:
    """JSON of something else."""
    (folder / "other.json").write_text('{"texts": [1]}')
    return str(folder / "other.json")


def latin_file(folder: Path) -> str:
    """A text in another encoding."""
    (folder / "latin.txt").write_bytes("Müller".encode("latin-1"))
    return str(folder / "latin.txt")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"texts": [{"prompt": 1, "text": 2}]}', "texts.0.prompt: Input should be a valid string"),
        ('{"texts": [{"prompt": ["a"], "text": ["b"]}]}', "texts.0.prompt: Input should be a valid string"),
        ('{"texts": [{"prompt": "a", "text": "\\ud800"}]}', "Invalid JSON: "),
        ('{"texts": 5}', "texts: Input should be a valid array"),
        ("[1]", "Input should be an object"),
        ("[" * 100_000, "Invalid JSON: recursion limit exceeded"),
    ],
)
def test_quality_of_json_from_elsewhere_says_what_is_wrong_in_it(
    tmp_path: Path, content: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts that are none would end in the midst of the statistics."""
    (tmp_path / "a.json").write_text(content)
    assert main(["analyze", "quality", str(tmp_path / "a.json")]) == 2
    assert f"a.json is no JSON that mlp sample wrote ({reason}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (lambda _: "nobody", [], "no run answers to 'nobody'"),
        (empty_file, [], "holds no text; there is nothing to look at"),
        (wrong_json, [], "is no JSON that mlp sample wrote"),
        (latin_file, [], "is not UTF-8 (byte 1"),
        (empty_file, ["--all"], "--all takes all samples of a run, but"),
        (empty_file, ["--against", "nobody"], "holds no text"),
    ],
)
def test_quality_what_its_user_can_mend_ends_with_2(
    run: RunFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    target: Callable[[Path], str],
    options: list[str],
    message: str,
) -> None:
    """One message, nothing written."""
    assert main(["analyze", "quality", target(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err
    assert not run.quality.exists()


def test_quality_of_a_run_without_samples_says_how_to_draw_some(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command to type next."""
    for file in run.samples.iterdir():
        file.unlink()
    assert main(["analyze", "quality", "bottles"]) == 2
    assert "draw some: mlp sample bottles --num-samples 20" in capsys.readouterr().err


def test_report_with_a_damaged_analysis_names_the_file(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """And how to make it anew."""
    run.quality.parent.mkdir()
    for content in ("{", '{"summary": 3}'):
        run.quality.write_text(content)
        assert main(["report", "bottles"]) == 2
        assert f"look again: mlp analyze quality {run.id}" in capsys.readouterr().err
