"""`mlp data check`: what is printed, with which exit code, what is written, and what is refused."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ml_playground.commands.command_line import run, tree
from ml_playground.commands.data_check import characters_that_fit
from ml_playground.commands.prepare import prepare_job
from ml_playground.data_pipeline.checks.table import CHECKS
from tests.architecture.source import ROOT
from tests.fakes.tiny_job import tiny_job

GOOD = '{"messages": [{"role": "user", "content": "Capital of France?"}, {"role": "assistant", "content": "Paris."}]}'
WARNED = '{"prompt": "hi", "completion": "schÃ¶n"}'
BROKEN = '{"prompt": "hi", '


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A good row, one with a warning, one with an error."""
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\n{WARNED}\n{BROKEN}\n", encoding="utf-8")
    return path


def mlp(*words: object) -> int:
    """The exit code of `mlp data check`."""
    return run(tree(), ["data", "check", *map(str, words)])


def test_check_prints_findings_with_place_effect_and_remedy(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors first; where, what, why it matters, what to do, what to type next."""
    assert mlp(rows) == 2
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.splitlines() == [
        "error   broken_json: 1 row, which is no JSON",
        "        It cannot be read. Mend it at the column that is named; --quarantine sets it aside.",
        f"        {rows}:3  column 18: Expecting property name enclosed in double quotes, got the end of the line",
        '          | {"prompt": "hi", ',
        "",
        "warning mojibake: 1 line, which is UTF-8 that was read as Latin-1 or Windows-1252",
        f"        {CHECKS['mojibake'].effect} {CHECKS['mojibake'].remedy}",
        f"        {rows}:2  would be 'ö'",
        "          | user: hi\\nassistant: schÃ¶n",
        "",
        f"3 rows in 1 file, {rows.stat().st_size}B",
        "half of the rows have 8 characters at most; 38% of all are answers",
        "found: 1 error, 1 warning, 0 infos",
        f"next: mlp data check {rows} --quarantine BAD.jsonl --clean GOOD.jsonl",
    ]


def test_check_ends_well_with_warnings_alone_and_with_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning is for a person to judge; a script goes on."""
    path = tmp_path / "a.jsonl"
    path.write_text(f"{GOOD}\n{WARNED}\n", encoding="utf-8")
    assert mlp(path) == 0
    path.write_text(f"{GOOD}\n", encoding="utf-8")
    assert mlp(path) == 0
    assert "found: nothing" in capsys.readouterr().out.splitlines()


def test_check_as_json_is_one_object_with_every_example(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For programs: codes are stable, places are numbers."""
    assert mlp(rows, "--json") == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["rows"], found["counts"]) == ("chat", 3, {"error": 1, "warning": 1, "info": 0})
    (example,) = found["findings"][0]["examples"]
    assert (found["findings"][0]["code"], example["file"], example["line"]) == ("broken_json", str(rows), 3)
    assert example["offset"] == len(f"{GOOD}\n{WARNED}\n".encode())
    assert found["quarantined"] is None


def test_quarantine_and_clean_hold_all_rows_and_say_so(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bad ones with their reason, the good ones as they were; checking the good ones again finds nothing."""
    before = rows.read_bytes()
    away, clean = tmp_path / "bad.jsonl", tmp_path / "good.jsonl"
    assert mlp(rows, "--quarantine", away, "--clean", clean) == 2
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"quarantine: 2 entries in {away}, each with its reason",
        f"clean: 1 row in {clean}; go on with that file",
    ]
    assert clean.read_text() == f"{GOOD}\n"
    entries = [json.loads(line) for line in away.read_text(encoding="utf-8").splitlines()]
    assert [(entry["line"], entry["codes"], entry["row"]) for entry in entries] == [
        (2, ["mojibake"], WARNED),
        (3, ["broken_json"], BROKEN),
    ]
    assert entries[0]["reason"] == "is UTF-8 that was read as Latin-1 or Windows-1252: would be 'ö'"
    assert rows.read_bytes() == before
    assert mlp(clean) == 0


def test_row_with_an_error_takes_no_good_row_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer contradicts no other one; of the good rows the first of the copies stays."""
    path, away, clean = tmp_path / "a.jsonl", tmp_path / "bad.jsonl", tmp_path / "good.jsonl"
    hello, empty, other = (
        json.dumps({"prompt": prompt, "completion": answer})
        for prompt, answer in (("hi", "hello"), ("hi", ""), ("a", "b"))
    )
    path.write_text(f"{hello}\n{empty}\n{hello}\n{other}\n")
    assert mlp(path, "--quarantine", away, "--clean", clean) == 2
    assert "different_answers" not in capsys.readouterr().out
    assert clean.read_text() == f"{hello}\n{other}\n"
    entries = [json.loads(line) for line in away.read_text().splitlines()]
    assert [(entry["line"], entry["codes"]) for entry in entries] == [(2, ["empty_answer"]), (3, ["duplicate_row"])]


@pytest.mark.parametrize("rest", ["", "\n", " \n\n"])
def test_clean_file_without_a_row_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], rest: str) -> None:
    """Blank lines are nothing to go on with."""
    path, clean = tmp_path / "a.jsonl", tmp_path / "good.jsonl"
    path.write_text(f"{BROKEN}\n{rest}")
    assert mlp(path, "--clean", clean) == 2
    assert f"clean: nothing is left, so {clean} was not written" in capsys.readouterr().out.splitlines()[-1]
    assert not clean.exists()


def test_quarantine_of_a_text_lists_its_bad_lines_and_documents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line with two faults is one entry; a document that is a copy is named, not copied."""
    first, second, away = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "bad.jsonl"
    first.write_bytes(b"fine\nsch\xc3\x83\xc2\xb6n \x07\nGr\xfc\xdfe\n" + b"This line is fine, too.\n" * 9)
    second.write_bytes(first.read_bytes())
    assert mlp(first, second, "--quarantine", away) == 2
    capsys.readouterr()
    entries = [json.loads(line) for line in away.read_text(encoding="utf-8").splitlines()]
    assert [(entry["file"], entry["line"], entry["offset"], entry["codes"]) for entry in entries] == [
        (str(first), 2, 5, ["mojibake", "control_character"]),
        (str(first), 3, 16, ["wrong_encoding"]),
        (str(second), 2, 5, ["mojibake", "control_character"]),
        (str(second), 3, 16, ["wrong_encoding"]),
        (str(second), 1, 0, ["duplicate_document"]),
    ]
    assert [entry["row"] for entry in entries] == ["schÃ¶n \x07", None, "schÃ¶n \x07", None, None]
    assert entries[1]["row_base64"] == "R3L832U="


def test_check_of_an_experiment_reads_its_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --set as everywhere; what is validated on is known from its settings."""
    paragraph = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 4
    (tmp_path / "text.txt").write_text(f"{paragraph}\n\nBetween.\n\n{paragraph}\n", encoding="utf-8")
    source = f'prepare.source={{kind="text_file", path="{tmp_path / "text.txt"}"}}'
    assert mlp("shakespeare", "--set", source, "--set", "prepare.val_fraction=0.4") == 0
    shown = capsys.readouterr().out
    assert "warning validation_leak: 1 passage, which is validated on and trained on" in shown
    assert "text.txt:5  as text.txt:1" in shown
    assert shown.splitlines()[-1].startswith("next: mlp data check shakespeare --set ")


def test_check_of_an_experiments_rows_knows_how_long_they_may_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the job's sequences, of one character a token."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "to be " * 50}) + "\n" + GOOD + "\n", encoding="utf-8")
    source = f'prepare.source={{kind="text_file", path="{path}"}}'
    assert mlp("shakespeare", "--kind", "chat", "--set", source, "--set", "data.sequence_tokens=128") == 0
    assert "300 characters, 128 fit" in capsys.readouterr().out


def test_characters_that_fit_are_those_of_the_prepared_text(tmp_path: Path) -> None:
    """Before preparing an estimate, afterwards what the tokenizer made of it."""
    job = tiny_job(tmp_path, prepare={"tokenizer": {"kind": "byte_bpe", "vocab_size": 300}})
    assert characters_that_fit(job) == 64
    counts = prepare_job(job).manifest.ledger.splits["train"]
    assert characters_that_fit(job) == round(16 * counts.characters / counts.tokens) != 64
    assert characters_that_fit(tiny_job(tmp_path)) == 16


@pytest.mark.parametrize(("duplicates", "quoted", "leaks"), [("keep", 0, 1), ("drop", 0, 0), ("drop", 1, 1)])
def test_copies_that_are_dropped_are_no_leak(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], duplicates: str, quoted: int, leaks: int
) -> None:
    """They are in no part of the data set; what another document quotes of the training part still is a leak."""
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text("".join(f"{number % 5} has line {line}\n" for line in range(30)))
    with (tmp_path / "4.txt").open("a") as last:
        last.write("\n".join(f"\n{(tmp_path / '0.txt').read_text()}" for _ in range(quoted)))
    source = f'prepare.source={{kind="text_file", path="{tmp_path}"}}'
    words = ["shakespeare", "--set", source, "--set", "prepare.split_by=document"]
    assert mlp(*words, "--set", f"prepare.duplicates={duplicates}") == 0
    shown = capsys.readouterr().out
    assert "duplicate_document: 1 document" in shown
    assert ("'drop' leaves them out" in shown) == (duplicates == "drop")
    assert shown.count("validation_leak: 1 passage") == leaks


def test_documents_that_a_mixture_repeats_are_no_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They were asked for: each is looked at once, and its lines are counted once."""
    for part, lines in (("long", 90), ("short", 10)):
        (tmp_path / part).mkdir()
        for number in range(4):
            text = "".join(f"{part} {number} has line {line} of its own\n" for line in range(lines))
            (tmp_path / part / f"{number}.txt").write_text(text)
    parts = ", ".join(f'{part} = {{kind = "text_file", path = "{tmp_path / part}"}}' for part in ("long", "short"))
    source = f'prepare.source={{kind="mixture", epoch_ends="all_exhausted", parts={{{parts}}}}}'
    assert mlp("shakespeare", "--set", source, "--set", "prepare.split_by=hash") == 0
    shown = capsys.readouterr().out
    assert "400 lines in 8 documents" in shown
    assert "found: nothing" in shown


def test_val_file_is_compared_with_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same question on both sides; --clean takes it out of the training rows."""
    train, val, clean = tmp_path / "train.jsonl", tmp_path / "val.jsonl", tmp_path / "clean.jsonl"
    train.write_text(f'{GOOD}\n{{"prompt": "1+1?", "completion": "2"}}\n')
    val.write_text(f"{GOOD}\n")
    assert mlp(train, "--val", val, "--clean", clean) == 0
    shown = capsys.readouterr().out
    assert f"{val}:1  as {train}:1" in shown
    assert clean.read_text() == '{"prompt": "1+1?", "completion": "2"}\n'


def test_max_examples_bounds_what_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The count stays the count."""
    path = tmp_path / "rows.jsonl"
    path.write_text("{\n" * 9)
    assert mlp(path, "--max-examples", "2") == 2
    shown = capsys.readouterr().out
    assert "9 rows, each of which is no JSON" in shown
    assert shown.count(f"{path}:") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.jsonl"], "gone.jsonl does not exist"),
        (["."], ". is a folder; name files (.txt, or .jsonl with a row a line; of a folder FOLDER/*), an experiment"),
        (["pythn_stdlib"], "python_stdlib"),
        (["shakespeare", "--val", "gone.txt"], "--val takes FILEs beside FILEs, and shakespeare is an experiment"),
        (["a.txt", "--val", "gone.txt"], "gone.txt does not exist"),
        (["a.jsonl", "--set", "seed=1"], "--set has no effect on files"),
        (["a.jsonl", "--config", "a.txt"], "--config has no effect on files"),
        (["a.jsonl", "a.txt"], "Some files are rows (.jsonl) and some are texts"),
        (["a.txt", "--clean", "new"], "--clean needs rows of chats"),
        (["a.txt", "--max-characters", "9"], "--max-characters is for rows of chats"),
        (["a.jsonl", "--quarantine", "a.txt"], "--quarantine a.txt is there already"),
        (["a.jsonl", "--clean", "a.jsonl"], "--clean a.jsonl is there already"),
        (["a.jsonl", "--clean", "x", "--quarantine", "x"], "both name x"),
        (["empty.jsonl"], "There is no row to check"),
        (["empty.jsonl", "--kind", "text"], "There is no text to check: the files are empty"),
    ],
)
def test_wrong_use_is_refused_with_the_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    """Exit code 2, one line, nothing written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text(f"{GOOD}\n")
    (tmp_path / "a.txt").write_text("text\n")
    (tmp_path / "empty.jsonl").write_text("")
    assert mlp(*words) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.txt", "empty.jsonl"]


def test_quarantine_that_cannot_be_written_leaves_nothing(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, why, and neither file: a folder stands where the clean rows' own folder would be made."""
    away, clean = rows.parent / "bad.jsonl", rows / "good.jsonl"
    assert mlp(rows, "--quarantine", away, "--clean", clean) == 2
    assert f"Could not write {clean}" in capsys.readouterr().err
    assert [path.name for path in rows.parent.iterdir()] == ["rows.jsonl"]


def test_check_needs_no_torch(rows: Path) -> None:
    """Looking at data must not wait for PyTorch."""
    code = f"import sys; from ml_playground.cli import main; main(['data', 'check', {str(rows)!r}]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=600).returncode == 0


def test_what_to_type_next_is_the_same_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file and option again, quoted where a shell needs it."""
    train, more, val = tmp_path / "train.txt", tmp_path / "more rows", tmp_path / "val.txt"
    for path in (train, more, val):
        path.write_text(f"{WARNED}\n", encoding="utf-8")
    assert mlp(train, more, "--kind", "chat", "--val", val, "--max-characters", "99") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    typed = f"{train} '{more}' --kind chat --val {val} --max-characters 99"
    assert last == f"next: mlp data check {typed} --quarantine BAD.jsonl --clean GOOD.jsonl"


def test_where_no_row_is_usable_nothing_is_to_be_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clean file without rows helps nobody; a text under another key can be read as it is."""
    path = tmp_path / "speeches.jsonl"
    path.write_text('{"meta": {"text": "Ladies and gentlemen"}}\n' * 2, encoding="utf-8")
    assert mlp(path) == 2
    shown = capsys.readouterr().out
    assert 'prepare.source.content_column = "meta.text"' in shown
    assert shown.splitlines()[-1] == (
        "next: mend what is named first; every row has it, so that nothing would be left to go on with"
    )


def test_names_and_keys_of_a_stranger_cannot_disturb_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither what a file is called nor what stands in it."""
    path = tmp_path / "a\x1b[31m.jsonl"
    path.write_text('{"\\u001b[2J": "\\u001b[2J"}\n{"messages": [{"role": "\\u001b[2J", "content": "\\u001b[2J"}]}\n')
    assert mlp(path, "--quarantine", tmp_path / "bad.jsonl") == 2
    assert "\x1b" not in capsys.readouterr().out


def test_names_of_what_is_written_cannot_disturb_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor what is to be typed next."""
    path = tmp_path / "a\x1b[31m.jsonl"
    path.write_text(f"{WARNED}\n{GOOD}\n", encoding="utf-8")
    assert mlp(path) == 0
    assert mlp(path, "--quarantine", tmp_path / "b\x1b[2J.jsonl", "--clean", tmp_path / "g\x1b[2J.jsonl") == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("next: mlp data check", "quarantine: 1 entry", "clean: 1 row"))
    assert "\x1b" not in shown


def size_of(file: Path) -> int:
    """Bytes; none where there is no file. One that is empty lies there a moment before the program knows that it has to remove it."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def interrupted_check(rows: int, path: Path, away: Path) -> tuple[int, str]:
    """Exit code and words of a check that gets Ctrl-C once something stands in its quarantine."""
    path.write_bytes(f"{WARNED}\n".encode() * rows)
    command = [sys.executable, "-m", "ml_playground.cli", "data", "check", str(path), "--quarantine", str(away)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while process.poll() is None and not size_of(away.with_name(".bad.jsonl.partial")):
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=600)
    return process.returncode, told


@pytest.mark.usefixtures("uncovered")
def test_check_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C while the quarantine is written: exit code 130, and no half of it."""
    path, away = tmp_path / "rows.jsonl", tmp_path / "bad.jsonl"
    for rows in (12_000, 120_000, 600_000):
        ended = interrupted_check(rows, path, away)
        if not away.exists():
            break
        away.unlink()  # On a machine that was elsewhere for a moment it was over before the signal came.
    assert ended == (130, "error: interrupted.\n")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["rows.jsonl"]


@pytest.mark.parametrize("code", list(CHECKS))
def test_every_code_stands_in_the_documents(code: str) -> None:
    """With its severity, what it is and what to do, as the command says it."""
    check = CHECKS[code]
    row = f"| `{code}` | {check.severity} | {check.unit}s | {check.title} | {check.remedy} |"
    assert row in (ROOT / "docs" / "data.md").read_text(encoding="utf-8").splitlines()
