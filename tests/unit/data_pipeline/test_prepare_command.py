"""`mlp prepare`: what is printed, where, and that torch stays out of it."""

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ml_playground.commands.command_line import run, tree
from ml_playground.commands.prepare import prepare, shown_progress
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.progress import PrepareProgress
from tests.fakes.prepared_text import write_texts

TEXT = "to be, or not to be\n" * 50


@pytest.fixture
def source(tmp_path: Path) -> list[str]:
    """What to type after --set to prepare a small text, in the form that messages recommend."""
    path = write_texts(tmp_path, {"text.txt": TEXT}) / "text.txt"
    return [f'prepare.source={{kind="text_file", path="{path}"}}', 'prepare.tokenizer={kind="char"}']


def test_prepare_of_a_damaged_data_set_says_what_to_type(source: list[str], home: Path) -> None:
    """The experiment and the settings as they were typed, not a word that stands for them."""
    prepare("shakespeare", sets=source)
    (folder,) = (home / "data").glob("*/")
    (folder / "train.tokens").write_bytes(b"")
    typed = shlex.join(["shakespeare", "--set", source[0], "--set", source[1]])
    with pytest.raises(DataError, match=re.escape(f"Prepare it anew with `mlp prepare {typed} --fresh`")):
        prepare("shakespeare", sets=source)
    prepare("shakespeare", sets=source, fresh=True)


def test_prepare_prints_each_split_vocabulary_and_folder(
    source: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stdout what was made, on stderr a line a phase."""
    prepare("shakespeare", sets=source)
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == "shakespeare: prepared"
    assert lines[2].split() == ["train", "900", "899", "1", "900", "1.00", "0"]
    assert lines[4] == "vocabulary: 10 (char)"
    assert lines[5] == "lost:       nothing"
    assert lines[6].startswith(f"folder:     {home}/data/")
    assert shlex.split(lines[7]) == ["next:", "mlp", "train", "shakespeare", "--set", source[0], "--set", source[1]]
    assert "prepare: turning text into tokens" in shown.err.splitlines()


def test_prepare_again_with_json_says_that_it_was_there(source: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One object, nothing else, on stdout."""
    prepare("shakespeare", sets=source)
    capsys.readouterr()
    prepare("shakespeare", sets=source, json_output=True)
    again = json.loads(capsys.readouterr().out)
    assert again["reused"] is True
    assert again["set_aside"] is None
    assert again["splits"]["val"]["characters"] == 100
    assert again["lost_fraction"] == 0
    assert again["epoch"]["train"]["trained"] == 899
    assert Path(again["folder"]).is_dir()


def test_prepare_with_workers_makes_the_data_set_of_one(source: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The option is about time; the data set of one process is used again by two."""
    sets = [source[0], 'prepare.tokenizer={kind="byte_bpe", vocab_size=300}']
    assert run(tree(), ["prepare", "shakespeare", "--set", sets[0], "--set", sets[1], "--workers", "2", "--json"]) == 0
    shared = json.loads(capsys.readouterr().out)
    prepare("shakespeare", sets=sets, fresh=True, workers=1, json_output=True)
    alone = json.loads(capsys.readouterr().out)
    assert shared["fingerprint"] == alone["fingerprint"]
    assert Path(alone["set_aside"]).is_dir()


def test_prepare_without_any_worker_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """At least this process works."""
    assert run(tree(), ["prepare", "shakespeare", "--workers", "0"]) == 2
    assert "Invalid value for '--workers': Input should be greater than or equal to 1" in capsys.readouterr().err


def test_prepare_changed_source_is_refused_and_fresh_keeps_the_old_data(
    source: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says what to type, and that works."""
    prepare("shakespeare", sets=source)
    write_texts(tmp_path, {"text.txt": TEXT + "to be"})
    with pytest.raises(DataError, match=r"text\.txt changed.*--fresh"):
        prepare("shakespeare", sets=source)
    capsys.readouterr()
    prepare("shakespeare", sets=source, fresh=True)
    old = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("old data:"))
    assert Path(old.split()[-1]).is_dir()


def test_prepare_says_which_files_were_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is left out in silence."""
    folder = write_texts(tmp_path, {"a.txt": TEXT, "b.txt": "", "c.txt": ""})
    prepare("shakespeare", sets=[f'prepare.source={{kind="text_file", path="{folder}"}}'])
    assert "skipped:    2 of 3 files (2 empty)" in capsys.readouterr().out.splitlines()


def test_prepare_says_what_is_lost_and_which_copies_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to type to see where; copies are kept until somebody says otherwise."""
    folder = write_texts(tmp_path, {"a.txt": TEXT, "b.txt": TEXT, "c.txt": TEXT[:-3] + "né"})
    sets = [f'prepare.source={{kind="text_file", path="{folder}"}}', 'prepare.tokenizer={kind="char"}']
    prepare("shakespeare", sets=sets)
    lines = capsys.readouterr().out.splitlines()
    typed = shlex.join(["shakespeare", "--set", sets[0], "--set", sets[1]])
    assert (
        f"lost:       0.067 % of the text: 2 bytes in characters that the tokenizer does not know; where: mlp data ledger {typed}"
        in lines
    )
    assert "copies:     1 document, 1,000 characters (kept; prepare.duplicates = 'drop' leaves them out)" in lines
    prepare("shakespeare", sets=[*sets, "prepare.duplicates=drop"])
    lines = capsys.readouterr().out.splitlines()
    assert "copies:     1 document, 1,000 characters (dropped)" in lines
    assert lines[2].split()[3:5] == ["2", "1,799"]


def test_prepare_does_not_import_torch(source: list[str]) -> None:
    """Two seconds and 200 MB that preparing does not need."""
    code = (
        "import sys; from ml_playground.commands.prepare import prepare;"
        f"prepare('shakespeare', sets={source!r}); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_progress_on_a_terminal_is_a_bar_that_goes_away() -> None:
    """One a phase; the finished ones are hidden."""
    console = Console(force_terminal=True, width=100, record=True, file=io.StringIO())
    with shown_progress(console) as report:
        report(PrepareProgress("reading"))
        report(PrepareProgress("encoding", 10, 100))
        report(PrepareProgress("encoding", 60, 100))
    assert "turning text into tokens" in console.export_text()


def test_progress_elsewhere_is_a_line_a_phase(tmp_path: Path) -> None:
    """A log stays readable."""
    path = tmp_path / "out.txt"
    with path.open("w") as file, shown_progress(Console(file=file, width=100)) as report:
        for progress in (PrepareProgress("reading", 1), PrepareProgress("reading", 2), PrepareProgress("learning")):
            report(progress)
    assert path.read_text() == "prepare: reading the text\nprepare: learning the vocabulary\n"
