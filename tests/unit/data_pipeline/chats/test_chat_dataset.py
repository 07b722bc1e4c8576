"""Prepared chats on disk: damage and edits are refused before anything is trained on them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ml_playground.core.chat_facts import TEMPLATE_NAME
from ml_playground.core.chat_template import ChatTemplate
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.chats.chat_dataset import ChatManifest, PreparedChats, open_chats
from ml_playground.data_pipeline.manifest import MANIFEST_NAME, account_of
from ml_playground.data_pipeline.storage.token_file import WEIGHT_TYPE
from tests.fakes.chat_families import prepared_chats
from tests.fakes.prepared_text import prepared_text


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreparedChats:
    """Eight chats."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "home"))
    return prepared_chats(tmp_path)


def overwritten(prepared: PreparedChats, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file, and what the manifest says of it: the work of somebody who means it."""
    path = prepared.folder / name
    path.write_bytes(change(path.read_bytes()))
    files = {**prepared.manifest.files, name: account_of(path)}
    manifest = prepared.manifest.model_copy(update={"files": files}).sealed()
    (prepared.folder / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")


@pytest.mark.parametrize("name", ["train.tokens", "train.weights", "train.index", "train.chats", "tokenizer/chat.json"])
def test_damaged_file_is_refused(prepared: PreparedChats, name: str) -> None:
    """A byte more, a byte changed, a file that is gone: each is named."""
    path = prepared.folder / name
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    with pytest.raises(DataError, match=f"{path.name} has .* bytes, dataset.json says"):
        open_chats(prepared.folder)
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(DataError, match=f"{path.name} has changed since it was written"):
        open_chats(prepared.folder)
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name} is missing"):
        open_chats(prepared.folder)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.nan, r"train.weights does not fit dataset.json: token 0 has the weight nan"),
        (-1.0, r"token 0 has the weight -1"),
        (2.0, r"\d+ of its weights are above 0, where \d+ tokens are targets"),
    ],
)
def test_weights_that_are_none_are_refused(prepared: PreparedChats, weight: float, message: str) -> None:
    """Also where the hash was made to fit: not a number, below zero, or more targets than were counted."""
    first = np.array([weight], dtype=WEIGHT_TYPE).tobytes()
    overwritten(prepared, "train.weights", lambda content: first + content[len(first) :])
    with pytest.raises(DataError, match=message):
        open_chats(prepared.folder)


def test_chats_without_a_line_for_each_row_are_refused(prepared: PreparedChats) -> None:
    """Rows and chats go together by their order."""
    overwritten(prepared, "val.chats", lambda content: content.replace(b"\n", b" ", 1))
    with pytest.raises(DataError, match=r"val.chats does not fit dataset.json: it has 1 lines for 2 rows"):
        open_chats(prepared.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table["ledger"]["splits"]["train"].update(rows=7), r"tokens in 7 rows, so train.index would have 56 bytes"),
        (lambda table: table["ledger"]["splits"]["train"].update(trained=10**6), r"train has 1000000 trained and 0 unknown among"),
        (lambda table: table["ledger"].update(chats=9), r"chats of the source and of its parts differ: 9 and 8"),
        (lambda table: table["files"].pop("train.weights"), r"files lacks train.weights"),
        (lambda table: table["files"].pop("tokenizer/chat.json"), r"files lacks tokenizer/chat.json"),
        (lambda table: table.update(vocab_size=70_000), r"token_type is uint16, a vocabulary of 70000 has uint32"),
        (lambda table: table["ledger"]["splits"].pop("val"), r"ledger.splits lacks val"),
    ],
)  # fmt: skip
def test_manifest_that_contradicts_itself_is_refused(
    prepared: PreparedChats, change: Callable[[dict[str, object]], None], message: str
) -> None:
    """However its fingerprint was made to fit."""
    table = json.loads((prepared.folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    change(table)
    manifest = ChatManifest.model_validate_json(json.dumps(table)).sealed()
    (prepared.folder / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        open_chats(prepared.folder)


def test_odd_rows_of_pairs_are_refused(prepared: PreparedChats) -> None:
    """Each better answer has a worse one."""
    table = prepared.manifest.model_copy(update={"pairs": True})
    assert not table.contradictions()
    counts = dict(table.ledger.splits) | {"val": table.ledger.splits["val"].model_copy(update={"rows": 1})}
    odd = table.model_copy(update={"ledger": table.ledger.model_copy(update={"splits": counts})})
    assert "val has 1 rows, which are no pairs" in odd.contradictions()


def test_file_that_is_written_into_while_it_is_read_is_noticed(prepared: PreparedChats) -> None:
    """The run ends before it trains on other weights than those that were prepared."""
    rows = open_chats(prepared.folder).rows("train")
    rows.check()
    path = prepared.folder / "train.weights"
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(b"\0\0\0\1" + content[4:])
    with pytest.raises(DataError, match="train.weights was written into while it was trained on"):
        rows.check()


def test_template_beside_chats_is_the_one_they_were_rendered_with(prepared: PreparedChats) -> None:
    """Another one would ask a model for what it never learnt."""
    path = prepared.tokenizer_folder / TEMPLATE_NAME
    path.write_text("{{ messages }}", encoding="utf-8")
    with pytest.raises(DataError, match=r"chat_template.jinja is not the template that the chats were prepared with"):
        ChatTemplate.load(prepared.tokenizer_folder)
    path.unlink()
    with pytest.raises(DataError, match=r"chat_template.jinja cannot be read"):
        ChatTemplate.load(prepared.tokenizer_folder)


def test_text_is_no_chats_and_split_must_be_there(prepared: PreparedChats, tmp_path: Path) -> None:
    """Each is named with what to do."""
    with pytest.raises(DataError, match=r"holds no chats; choose a kind of \[data\] that reads what it holds"):
        open_chats(prepared_text(tmp_path / "text", "to be or not to be\n" * 20).folder)
    with pytest.raises(DataError, match=r"has no split 'test' \(it has: train, val\)"):
        prepared.rows("test")
