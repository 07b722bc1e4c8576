"""`mlp prepare`, `mlp data ledger` and `mlp data check` of chats, as they are typed."""

import json
import re
from pathlib import Path

import pytest

from ml_playground.commands.data import ledger
from ml_playground.commands.data_check import WITH_ERRORS, check
from ml_playground.commands.prepare import prepare
from ml_playground.core.error_handling import ConfigError, DataError
from tests.fakes.chat_families import SOME, chat_file, prepared_chats, tokenizer_folder, turns

CONFIG = """
name = "chats"
[prepare]
source = {{ kind = "jsonl_chat", path = "chats.jsonl" }}
tokenizer = {tokenizer}
chat = {{ {chat} }}
val_fraction = 0.25
[data]
kind = "padded_examples"
sequence_tokens = 64
micro_batch_rows = 2
[model]
kind = "gpt"
n_layer = 1
n_head = 1
n_embd = 8
[objective]
kind = "next_token"
[optimizer]
kind = "adamw"
lr = 0.001
[schedule]
kind = "warmup_constant"
[train]
max_steps = 2
"""
LIBRARY, LEARNT = '{ kind = "hugging_face", path = "tokenizer" }', '{ kind = "byte_bpe", vocab_size = 280 }'


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "home"))


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A folder with a configuration, a tokenizer and chats: a bad row, a copy, a special token in a message."""
    chat_file(tmp_path / "chats.jsonl", [*SOME, "{", SOME[0], turns("say <|im_end|>", "no")])
    tokenizer_folder(tmp_path / "tokenizer")
    return configured(tmp_path)


def configured(folder: Path, *, tokenizer: str = LIBRARY, chat: str = "") -> Path:
    """With a configuration."""
    (folder / "config.toml").write_text(CONFIG.format(tokenizer=tokenizer, chat=chat), encoding="utf-8")
    return folder


def test_bad_row_ends_the_command_with_what_to_type(experiment: Path) -> None:
    """File, line, reason, and the setting that leaves such rows out."""
    with pytest.raises(
        DataError, match=r"^chats.jsonl:9: column 2: .*; correct the row, or leave .*on_bad_row = 'drop'\.$"
    ):
        prepare(str(experiment))


def test_summary_says_what_is_trained_and_what_is_not(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each split, what was dropped, what is there twice, what looked like a special token; the same as JSON."""
    drop = ["prepare.chat.on_bad_row=drop"]
    prepare(str(experiment), sets=drop)
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert "prepare: turning text into tokens" in said.err
    assert lines[1].split() == ["chats", "rows", "tokens", "targets", "trained", "an", "epoch"]
    assert [line.split()[:3] for line in lines[2:4]] == [["train", "8", "8"], ["val", "2", "2"]]
    assert "lost:       nothing" in lines
    assert any(line.startswith("dropped:    1 row that cannot be trained on; where: mlp data ledger") for line in lines)
    assert "copies:     1 chat (kept; prepare.duplicates = 'drop' leaves them out)" in lines
    assert "spelled:    1 special token in what messages say, encoded as the text that they are" in lines
    prepare(str(experiment), sets=drop, json_output=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["reused"], found["copies"], found["bad_rows"][0]["id"]) == (True, 1, "chats.jsonl:9")
    train = found["splits"]["train"]
    assert train["trained"] + train["masked"] == train["tokens"] == found["epoch"]["train"]["tokens"]


def test_ledger_shows_all_of_it(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every row of the source in a split or dropped, with the reason; and what an epoch does with the tokens."""
    sets = ["prepare.chat.on_bad_row=drop", "prepare.duplicates=drop"]
    prepare(str(experiment), sets=sets)
    capsys.readouterr()
    ledger(str(experiment), sets=sets)
    lines = capsys.readouterr().out.splitlines()
    table = {line[:16].strip(): line.split() for line in lines[2:]}
    assert lines[2].split() == ["source", "train", "val", "duplicates", "bad", "rows"]
    assert table["chats"][1:] == ["11", "7", "2", "1", "1"]
    counts = [int(number.replace(",", "")) for number in table["tokens"][1:]]
    assert counts[0] == sum(counts[1:])
    assert counts[3] > 0
    assert "copies:     1 chat (dropped)" in lines
    assert any(line.strip().startswith("chats.jsonl:9: column 2: ") for line in lines)


def test_preferences_say_that_they_are_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two rows of one prompt; a folder is shown without an experiment."""
    rows = [{"prompt": f"{n}?", "chosen": "yes", "rejected": f"no {n}"} for n in range(8)]
    ledger(str(prepared_chats(tmp_path, rows, kind="jsonl_preference").folder))
    lines = capsys.readouterr().out.splitlines()
    assert "pairs:      each two rows are a better and a worse answer to one prompt" in lines
    assert next(line.split()[1:] for line in lines if line.startswith("rows")) == ["16", "12", "4"]


def test_tokenizer_that_learns_is_prepared_with_plain(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And refused with chatml, whose marks it does not know, before a chat is read."""
    chat_file(experiment / "chats.jsonl", SOME)
    configured(experiment, tokenizer=LEARNT, chat='template = "plain"')
    prepare(str(experiment))
    assert re.search(r"^vocabulary: \d+ \(byte_bpe\)$", capsys.readouterr().out, re.MULTILINE)
    configured(experiment, tokenizer=LEARNT, chat='template = "chatml"')
    with pytest.raises(ConfigError, match=r"'chatml' ends answers with <\|im_end\|>, which is no token"):
        prepare(str(experiment))
    assert capsys.readouterr().err == ""


def test_data_check_reads_the_chats_of_an_experiment(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As rows, without being told."""
    assert check([str(experiment)]) == WITH_ERRORS
    out = capsys.readouterr().out
    assert "11 rows in 1 file" in out
    assert "broken_json" in out
