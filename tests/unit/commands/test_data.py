"""`mlp data ledger`: where every token goes, as a table and as JSON."""

import json
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.commands.command_line import run, tree
from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.manifest import Prepared
from ml_playground.data_pipeline.preparer import prepare
from tests.fakes.prepared_chats import chats_source
from tests.fakes.prepared_text import write_texts
from tests.fakes.tiny_job import tiny_job
from tests.unit.data_pipeline.test_books import as_version_1

TEXT = "to be, or not to be\n" * 50


def experiment(folder: Path, texts: dict[str, str], more: str = "") -> tuple[str, Prepared]:
    """An experiment of one's own, with its data prepared."""
    write_texts(folder / "texts", texts)
    (folder / "config.toml").write_text(
        f"[prepare]\nsource = {{kind = 'text_file', path = '{folder}/texts'}}\ntokenizer = {{kind = 'byte'}}\n"
        f"duplicates = 'drop'\n{more}\n"
        "[data]\nsequence_tokens = 16\nmicro_batch_rows = 4\n[train]\nmax_steps = 5\nmicro_batches_per_step = 2\n"
        "[schedule]\nwarmup_steps = 0\n"
    )
    sections = {"source": {"kind": "text_file", "path": f"{folder}/texts"}, "tokenizer": {"kind": "byte"}}
    return str(folder), prepare(tiny_job(folder, prepare={**sections, "duplicates": "drop"}).prepare, Deps())


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Lines on stdout of a command that goes well."""
    assert run(tree(), ["data", "ledger", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_ledger_is_a_table_whose_columns_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The source is its splits and what was left out, count by count; each token of a split has one fate."""
    folder, prepared = experiment(tmp_path / "mine", {"a.txt": TEXT, "b.txt": TEXT, "c.txt": "é" * 100, "d.txt": ""})
    lines = printed(capsys, folder)
    rows = {line[:16].strip(): line[16:].split() for line in lines if line}
    assert lines[0] == "mine: 3 of 4 files used (1 empty)"
    assert rows["documents"] == ["3", "1", "2", "1"]
    assert rows["characters"] == ["2,100", "990", "110", "1,000"]
    assert rows["bytes"] == ["2,200", "990", "210", "1,000"]
    assert rows["tokens"] == ["2,203", "990", "212", "1,001"]
    assert rows["end marks"] == ["3", "0", "2", "1"]
    assert rows["trained"] == ["989", "211"]
    assert rows["masked"] == ["1", "1"]
    assert rows["padding"] == ["3", "13"]
    assert rows["share trained"] == ["99.89", "%", "99.52", "%"]
    assert "lost:       nothing" in lines
    assert "copies:     1 document, 1,000 characters (dropped)" in lines
    # Ten micro-batches of 4 x 16 tokens.
    assert "the run:    5 steps train 638 tokens, 64.5% of an epoch: the rest is never reached" in lines
    assert lines[-1] == f"folder:     {prepared.folder}"


def test_copies_of_a_mixture_that_repeats_name_no_setting_that_it_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Repetitions are copies on purpose; with prepare.duplicates = 'drop' the mixture would not be prepared at all."""
    for part, characters in (("long", 900), ("short", 90)):
        write_texts(tmp_path / part, {f"{number}.txt": f"{part} {number} " * characters for number in range(9)})
    parts = "".join(
        f"[prepare.source.parts.{part}]\nkind = 'text_file'\npath = '{tmp_path / part}'\n" for part in ("long", "short")
    )
    (tmp_path / "config.toml").write_text(
        "[prepare]\ntokenizer = {kind = 'byte'}\nsplit_by = 'hash'\nval_fraction = 0.3\n"
        f"[prepare.source]\nkind = 'mixture'\nepoch_ends = 'all_exhausted'\n{parts}"
    )
    assert run(tree(), ["prepare", str(tmp_path)]) == 0
    prepared = capsys.readouterr().out
    lines = printed(capsys, str(tmp_path))
    (copies,) = [line for line in lines if line.startswith("copies:")]
    assert copies.endswith("(kept; what is repeated is among them)")
    assert copies in prepared


def test_ledger_as_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything a program could ask, without a table to take apart."""
    folder, prepared = experiment(tmp_path / "mine", {"a.txt": TEXT})
    (line,) = printed(capsys, folder, "--json")
    books = json.loads(line)
    assert (books["folder"], books["fingerprint"]) == (str(prepared.folder), prepared.fingerprint)
    assert books["epoch"]["train"]["trained"] == 899
    assert books["ledger"]["losses"]["copies"] == {"documents": 0, "characters": 0}


def test_ledger_of_a_run_of_many_epochs_counts_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """900 tokens are 57 windows, of which a step takes eight."""
    folder, _ = experiment(tmp_path / "mine", {"a.txt": TEXT})
    assert "the run:    57 steps train 7.19 k tokens, 8 epochs" in printed(
        capsys, folder, "--set", "train.max_steps=57"
    )


def test_ledger_of_a_folder_shows_what_lies_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data that came without an experiment; what an epoch does is the experiment's."""
    _, prepared = experiment(tmp_path / "mine", {"a.txt": TEXT})
    lines = printed(capsys, str(prepared.folder))
    assert lines[0] == "prepared data: 1 of 1 file used"
    assert not any("epoch" in line or "the run" in line for line in lines)
    assert run(tree(), ["data", "ledger", str(prepared.folder), "--set", "seed=1"]) == 2
    assert "so --set and --config have no effect; leave them out." in capsys.readouterr().err


def test_ledger_of_a_single_token_has_no_epochs_to_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing follows it, so an epoch has no batch."""
    folder, _ = experiment(tmp_path / "mine", {"a.txt": TEXT})
    write_texts(tmp_path / "mine" / "texts", {"a.txt": "aa"})
    sets = ["prepare.tokenizer={kind='char'}", "prepare.val_fraction=0.5"]
    words = [word for value in sets for word in ("--set", value)]
    assert run(tree(), ["prepare", folder, *words]) == 0
    capsys.readouterr()
    assert not any(line.startswith("the run:") for line in printed(capsys, folder, *words))


def test_ledger_names_the_rows_that_lose_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By source and position, and printable whatever stands there."""
    folder, _ = experiment(tmp_path / "mine", {"a.txt": TEXT})
    text = "abc\n" * 9 + "a\x1b[2J\u4f60"
    write_texts(tmp_path / "mine" / "texts", {"a.txt": text})
    sets = ["prepare.tokenizer={kind='char'}", "prepare.max_loss_fraction=0.5"]
    words = [word for value in sets for word in ("--set", value)]
    assert run(tree(), ["prepare", folder, *words]) == 0
    capsys.readouterr()
    lines = printed(capsys, folder, *words)
    lost = next(number for number, line in enumerate(lines) if line.startswith("lost:"))
    assert lines[lost] == "lost:       16 % of the text: 7 bytes in characters that the tokenizer does not know"
    assert lines[lost + 1] == r"            a.txt, line 10, character 37: '\x1b[2J你' (7 bytes of val)"


def test_what_advises_to_prepare_or_to_train_names_the_experiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With all that was typed, so that it can be typed again; of a damaged data set, whichever command finds it."""
    folder, prepared = experiment(tmp_path / "mine", {"a.txt": TEXT})
    words = ["--set", "train.max_steps=3"]
    advice = f"`mlp prepare {folder} --set train.max_steps=3"
    (prepared.folder / "val.tokens").unlink()
    for command in ("train", "run"):
        assert main([command, folder, *words]) == 2
        assert f"{advice} --fresh`" in capsys.readouterr().err
    (prepared.folder / "dataset.json").unlink()
    assert main(["data", "ledger", folder, *words]) == 2
    assert f"{advice}`, with --fresh" in capsys.readouterr().err


def test_ledger_of_data_from_before_says_that_nobody_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown is not nothing."""
    _, prepared = experiment(tmp_path / "mine", {"a.txt": TEXT})
    as_version_1(prepared)
    lines = printed(capsys, str(prepared.folder))
    assert (
        "lost:       not counted, for the data were prepared by an older version; `mlp prepare EXPERIMENT --fresh` counts"
        in lines
    )


def test_ledger_of_what_is_not_prepared_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    """No table of nothing; with the settings that were typed, for they name other data."""
    assert run(tree(), ["data", "ledger", "python_stdlib", "--set", "prepare.val_fraction=0.3"]) == 2
    assert "are not prepared; run: mlp prepare python_stdlib --set prepare.val_fraction=0.3" in capsys.readouterr().err


def test_ledger_of_chats_says_how_full_rows_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Packing can be seen to pay: padded rows are emptier."""
    path = chats_source(tmp_path / "mine")["path"]
    (tmp_path / "mine" / "config.toml").write_text(
        f"[prepare]\nsource = {{kind = 'jsonl_chat', path = '{path}'}}\ntokenizer = {{kind = 'byte'}}\nval_fraction = 0.25\n"
        "chat = {template = 'plain'}\n[data]\nkind = 'packed_examples'\nsequence_tokens = 128\n[train]\nmax_steps = 5\n"
    )
    assert run(tree(), ["prepare", str(tmp_path / "mine")]) == 0
    capsys.readouterr()
    filled = {}
    for kind in ("packed_examples", "padded_examples"):
        lines = printed(capsys, str(tmp_path / "mine"), "--set", f"data.kind={kind}")
        rows = {line[:16].strip(): line[16:].split() for line in lines if line}
        padding = int(rows["padding"][0])
        filled[kind] = float(rows["rows filled"][0])
        tokens = int(rows["trained"][0]) + int(rows["masked"][0])
        assert filled[kind] == pytest.approx(100 * tokens / (tokens + padding), abs=0.011)
    assert filled["packed_examples"] > filled["padded_examples"]
