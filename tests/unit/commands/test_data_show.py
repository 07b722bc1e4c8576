"""`mlp data show`: what is a target can be seen, in every form; nothing that a chat says disturbs terminal or page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_playground.cli import main
from ml_playground.commands.data_show_page import page_of
from ml_playground.commands.data_show_text import Look, legend, row_lines
from ml_playground.configuration.loading import load
from ml_playground.core.atomic import write_file
from ml_playground.core.run_folder import runs_folder
from ml_playground.data_pipeline.shown_rows import ShownDocument, ShownRow, ShownToken
from tests.fakes.image_files import drawn, prepared_images
from tests.fakes.prepared_chats import FEW, chats_source, prepared_chats
from tests.fakes.prepared_text import prepared_text

CONFIG = """
[prepare]
source = {{ kind = "jsonl_chat", path = "{path}" }}
tokenizer = {{ kind = "byte" }}
val_fraction = 0.25
[prepare.chat]
template = "plain"
[data]
kind = "{kind}"
sequence_tokens = 96
micro_batch_rows = 2
[train]
max_steps = 1
"""


def experiment(folder: Path, kind: str = "packed_examples") -> str:
    """One over few chats, prepared."""
    path = chats_source(folder, FEW)["path"]
    (folder / "config.toml").write_text(CONFIG.format(path=path, kind=kind))
    assert main(["prepare", str(folder)]) == 0
    return str(folder)


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that goes well says."""
    capsys.readouterr()
    assert main(["data", "show", *words]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that a user can mend says."""
    capsys.readouterr()
    assert main(["data", "show", *words]) == 2
    return capsys.readouterr().err


def test_show_in_a_pipe_brackets_targets_and_names_packed_chats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers with their end are in brackets, what the user says is not; each chat of a row has its name."""
    text = printed(capsys, experiment(tmp_path), "--limit", "1")
    assert text.splitlines()[0] == "train: 4 rows of 9 chats, of 28 to 60 tokens, half of them up to 28"
    assert "--- row 0 of 4, " in text
    assert "3 documents" in text
    assert "[chats.jsonl:1]" in text
    assert "User:↵\nHi↵\nAssistant:↵\n⟦Hello.<|endoftext|>⟧↵\n" in text
    assert "\x1b" not in text


def test_show_rows_that_are_asked_for_in_the_order_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of any split."""
    folder = experiment(tmp_path, "padded_examples")
    text = printed(capsys, folder, "--split", "val", "--row", "2", "--row", "0")
    heads = [line for line in text.splitlines() if line.startswith("---")]
    assert [head.split(",")[0] for head in heads] == ["--- row 2 of 3", "--- row 0 of 3"]
    assert "There is no row 3 of val: it has 3, counted from 0." in refused(
        capsys, folder, "--split", "val", "--row", "3"
    )


def test_show_as_json_gives_every_token_with_its_weight(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts of tokens joined are the chat, and weights are those that were prepared."""
    prepared = prepared_chats(tmp_path)
    found: Any = json.loads(printed(capsys, str(prepared.folder), "--limit", "99", "--json"))
    rows = prepared.rows("train")
    assert found["rows"] == len(found["shown"]) == len(rows)
    for number, row in enumerate(found["shown"]):
        (document,) = row["documents"]
        assert [token["id"] for token in document["tokens"]] == rows.ids(number).tolist()
        assert [token["weight"] for token in document["tokens"]] == rows.weights(number).tolist()
        asked, answer = FEW[number]
        text = "".join(token["text"] for token in document["tokens"])
        assert text == f"User:\n{asked}\nAssistant:\n{answer}<|endoftext|>\n"


def test_show_ids_and_borders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each token; and where each ends."""
    folder = experiment(tmp_path)
    lines = printed(capsys, folder, "--limit", "1", "--ids").splitlines()
    assert "     0       85      0  'U'" in lines
    assert "    26      256      1  '<|endoftext|>'" in lines
    assert "U│s│e│r│:│↵" in printed(capsys, folder, "--limit", "1", "--borders")


def test_show_of_a_text_shows_windows_whose_first_token_is_no_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts have rows, too: all of a window but its first token is foretold."""
    prepared = prepared_text(tmp_path, "to be, or not to be\n" * 30, tokenizer="char")
    text = printed(capsys, str(prepared.folder), "--limit", "1")
    assert "[train, tokens 0 to 257 of 540]" in text
    assert "\nt⟦o be, or not to be↵\n" in text
    last: Any = json.loads(printed(capsys, str(prepared.folder), "--row", "2", "--json"))
    assert last["shown"][0]["padding"] == 256 - (540 - 1 - 512)


def test_show_as_a_page_needs_nothing_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No address, no script; targets are marked."""
    page = tmp_path / "rows.html"
    assert printed(capsys, experiment(tmp_path), "--html", str(page)) == f"wrote {page}\n"
    text = page.read_text(encoding="utf-8")
    assert '<span class="target" data-id="72" title="id 72, weight 1">H</span>' in text
    assert '<span class="target special" data-id="256"' in text
    assert "<script" not in text
    assert "http:" not in text
    assert "https:" not in text


def hostile() -> ShownRow:
    """What no terminal and no page should ever be told."""
    texts = ["\x1b[2J", "</span><script>alert(1)</script>", "\u202e", '"', "\n", "fine"]
    tokens = tuple(ShownToken(number, text, number % 2 * 0.5, number == 5) for number, text in enumerate(texts))
    return ShownRow(0, (ShownDocument("a\x1b]0;b<b>.jsonl", 0, 6, tokens),), 0)


@pytest.mark.parametrize("ids", [True, False])
def test_hostile_chats_cannot_disturb_a_terminal(ids: bool) -> None:
    """Control characters are shown as what cannot be shown."""
    text = "\n".join(row_lines(hostile(), 1, Look(colour=False), ids=ids))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "fine" in text
    coloured = "\n".join(row_lines(hostile(), 1, Look(colour=True), ids=ids))
    assert "[2J" not in coloured.replace("\ufffd[2J", "").replace("\\x1b[2J", "")


def test_hostile_chats_are_only_text_on_a_page() -> None:
    """Nothing of them is markup."""
    page = page_of("<b>", "&", [hostile()], 1, np.array([3, 3, 9]), noun="chat")
    assert "<script" not in page
    assert "<b>" not in page
    assert "\x1b" not in page
    assert "&lt;/span&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_colours_tell_weights_and_special_tokens_apart() -> None:
    """Green is 1, yellow less, magenta more; what is read is dim."""
    tokens = tuple(ShownToken(0, f"w{weight}", weight, weight == 2) for weight in (0.0, 0.5, 1.0, 2.0))
    row = ShownRow(0, (ShownDocument("a", 0, 4, tokens),), 0)
    text = "\n".join(row_lines(row, 1, Look(colour=True), ids=False))
    for code, weight in (("2", "0.0"), ("33", "0.5"), ("32", "1.0")):
        assert f"\x1b[{code}mw{weight}\x1b[0m" in text
    assert "\x1b[35m\x1b[4mw2.0\x1b[0m" in text
    assert "\x1b[32mtarget\x1b[0m" in legend(Look(colour=True))
    plain = "\n".join(row_lines(row, 1, Look(colour=False), ids=False))
    assert "w0.0⟦0.5: w0.5⟧⟦w1.0⟧⟦2: w2.0⟧" in plain


def test_marks_are_those_that_the_stream_can_write() -> None:
    """A terminal of ASCII gets brackets that it knows."""
    row = ShownRow(0, (ShownDocument("a", 0, 1, (ShownToken(1, "x\n", 1.0, False),)),), 0)
    assert "[[x\\n\n]]" in "\n".join(row_lines(row, 1, Look(colour=False, encoding="ascii"), ids=False))
    assert legend(Look(colour=False, encoding="ascii")).startswith("[[...]]: targets")


def test_parts_of_a_chat_say_which_part_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A chat that was split over rows can be told from a whole one."""
    folder = experiment(tmp_path)
    cut = ("--set", "data.sequence_tokens=40", "--set", "data.truncation=split", "--limit", "99")
    text = printed(capsys, folder, *cut)
    assert "[chats.jsonl:4, tokens 0 to 41 of 60]" in text
    assert "[chats.jsonl:4, tokens 40 to 60 of 60]" in text


def test_show_of_a_run_goes_by_its_recorded_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its folder, by its id, and by the name of its experiment where no experiment here has it."""
    folder = experiment(tmp_path / "mine")
    job = load(folder, sets=["data.kind=padded_examples"]).job
    run = runs_folder() / "mine" / "20260101-120000-abcd"
    write_file(run / "config.json", job.model_dump_json())
    for target in (str(run), "mine/20260101-120000-abcd", "mine/2026", "mine"):
        assert "--- row 0 of 9, " in printed(capsys, target)
    assert "--- row 0 of 4, " in printed(capsys, folder)
    assert "is a run, whose settings are recorded, so --set and --config have no effect" in refused(
        capsys, "mine", "--set", "seed=1"
    )
    assert "no experiment 'other'" in refused(capsys, "other")


def test_show_wrong_ways_say_what_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is one line with what to do."""
    folder = experiment(tmp_path)
    prepared = str(prepared_chats(tmp_path / "other").folder)
    said = {
        "is a folder of prepared data, so --set and --config have no effect": (prepared, "--set", "seed=1"),
        "has no split 'test'": (folder, "--split", "test"),
        "--json prints everything there is to know": (folder, "--json", "--ids"),
        "the page of --html has a switch for each": (folder, "--html", "x.html", "--borders"),
        "are not prepared; run: mlp prepare": (folder, "--set", "prepare.val_fraction=0.5"),
        "data.sequence_tokens = 20 is too short for some of the chats": (folder, "--set", "data.sequence_tokens=20"),
    }
    for text, words in said.items():
        assert text in refused(capsys, *words)


def test_show_of_images_says_who_counts_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They have no tokens."""
    folder = str(prepared_images(tmp_path, *drawn(8), val_fraction=0.5).folder)
    assert "holds images, which have no tokens; mlp data ledger" in refused(capsys, folder)
