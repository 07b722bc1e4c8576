"""The books of a data set: what was prepared and what an epoch does, together; also of sets from before losses were counted."""

import json
from pathlib import Path

import pytest

from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.books import open_books
from ml_playground.data_pipeline.manifest import MANIFEST_NAME, Prepared, open_prepared
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.settings import (
    ExampleRows,
    PackedExamples,
    PaddedExamples,
    PreferencePairs,
    TokenWindows,
)
from tests.fakes.chat_families import prepared_chats
from tests.fakes.prepared_text import prepared_text, text_settings

TEXT = "to be, or not to be\n" * 20


def as_version_1(prepared: Prepared) -> None:
    """Rewrite the manifest as programs did that counted no losses."""
    path = prepared.folder / MANIFEST_NAME
    content = json.loads(path.read_text())
    content["schema_version"] = 1
    for name in ("losses", "dropped"):
        del content["ledger"][name]
    for counts in content["ledger"]["splits"].values():
        del counts["unknown_bytes"]
    for name in ("duplicates", "max_loss_fraction"):
        del content["prepare"][name]
    path.write_text(json.dumps(content))


def test_books_hold_the_ledger_and_an_epoch(tmp_path: Path) -> None:
    """As JSON values, for a run's record and for `mlp data ledger --json`."""
    prepared = prepared_text(tmp_path, TEXT)
    books = open_books(prepared.folder, TokenWindows(sequence_tokens=100, micro_batch_rows=2))
    content = json.loads(json.dumps(books.as_json()))
    assert content["fingerprint"] == prepared.fingerprint
    assert (content["lost_fraction"], content["lost_bytes"]) == (0.0, {})
    assert content["ledger"]["splits"]["train"]["characters"] == 360
    assert content["epoch"]["train"] == {
        "tokens": 360,
        "trained": 359,
        "masked": 1,
        "truncated": 0,
        "dropped": 0,
        "padding": 41,
        "batches": 2.0,
    }
    assert open_books(prepared.folder).epoch == {}


def test_data_set_from_before_losses_were_counted_is_used_as_it_is(tmp_path: Path) -> None:
    """Same folder, same fingerprint; its losses are unknown, not nought, and no limit holds for them."""
    settings = text_settings(tmp_path / "text.txt")
    prepared = prepared_text(tmp_path, TEXT)
    as_version_1(prepared)
    again = prepare(settings, Deps())
    assert again.reused
    assert again.fingerprint == prepared.fingerprint == open_prepared(prepared.folder).fingerprint
    books = open_books(again.folder)
    assert books.as_json()["lost_fraction"] is None
    books.check(0.0)


def test_data_sets_keep_their_names_under_new_settings(tmp_path: Path) -> None:
    """Those that leave the text alone are no part of the name; dropping copies makes another data set."""
    path = tmp_path / "text.txt"
    plain = prepared_folder(text_settings(path))
    assert prepared_folder(text_settings(path, max_loss_fraction=0.5, duplicates="keep")) == plain
    assert prepared_folder(text_settings(path, duplicates="drop")) != plain
    # The name that the version before gave to these settings.
    assert prepared_folder(text_settings(Path("/text.txt"))).name == "b18b0483a3cc6373"


@pytest.mark.parametrize(
    ("kind", "truncation", "can_split"),
    [
        (PackedExamples, "drop", True),
        (PaddedExamples, "left", True),
        (PackedExamples, "split", False),
        (PreferencePairs, "drop", False),
    ],
)
def test_books_know_whether_rows_that_are_too_long_could_be_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[ExampleRows], truncation: str, can_split: bool
) -> None:
    """So that nobody is sent to a value that the kind of data does not take, or that is set already."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "home"))
    pairs = [{"prompt": f"{n}?", "chosen": "a", "rejected": "b"} for n in range(8)]
    rows = {"rows": pairs, "kind": "jsonl_preference"} if kind is PreferencePairs else {}
    prepared = prepared_chats(tmp_path, **rows)
    shape = {"sequence_tokens": 64, "micro_batch_rows": 1, "truncation": truncation}
    data = kind(**shape, **({"reference": Path("base")} if kind is PreferencePairs else {}))
    assert open_books(prepared.folder, data).can_split == can_split
