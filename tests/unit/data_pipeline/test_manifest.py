"""A prepared data set that was touched is found out, and the file is named."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.manifest import Prepared, open_prepared
from tests.fakes.prepared_text import prepared_text

FRESH = "mlp prepare EXPERIMENT --fresh"


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """A small one."""
    return prepared_text(tmp_path, "to be or not to be, that is the question\n" * 5)


def edit(prepared: Prepared, **changes: object) -> None:
    """Set some keys of dataset.json."""
    path = prepared.folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_open_whole_data_set_gives_what_was_prepared(prepared: Prepared) -> None:
    """Same manifest, same tokens."""
    opened = open_prepared(prepared.folder)
    assert opened.manifest == prepared.manifest
    assert opened.fingerprint == prepared.fingerprint
    assert len(opened.tokens("train")) == opened.manifest.ledger.splits["train"].tokens
    assert opened.document_starts("val").tolist() == [0]


def test_dataset_json_holds_settings_source_and_counts(prepared: Prepared) -> None:
    """Everything one would ask later."""
    content = json.loads((prepared.folder / "dataset.json").read_text())
    assert content["schema_version"] == 2
    assert content["prepare"]["tokenizer"] == {"kind": "char"}
    assert content["source"]["files"][0]["size_bytes"] == 205
    assert content["token_type"] == "uint16"
    assert content["ledger"]["splits"]["val"]["characters"] == 21
    assert set(content["files"]) == {
        "train.tokens",
        "train.index",
        "val.tokens",
        "val.index",
        "tokenizer/tokenizer.json",
    }


@pytest.mark.parametrize("name", ["train.tokens", "val.index", "tokenizer/tokenizer.json"])
def test_open_flipped_byte_names_the_file_and_both_hashes(prepared: Prepared, name: str) -> None:
    """One bit is enough."""
    path = prepared.folder / name
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} has changed since it was written: its sha256 is .*{FRESH}"):
        open_prepared(prepared.folder)


OPEN_THRICE = """
import json, os, sys, time
from pathlib import Path
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.manifest import open_prepared
folder = Path(sys.argv[1])
opened = []
sys.addaudithook(lambda event, details: opened.append(str(details[0])) if event == "open" else None)
def readings(action):
    del opened[:]
    action()
    return sum(name.endswith("train.tokens") for name in opened)
def after_a_change():
    path = folder / "train.tokens"
    path.write_bytes(bytes(reversed(path.read_bytes())))
    del opened[:]
    try:
        open_prepared(folder)
    except DataError as error:
        assert "train.tokens has changed" in str(error)
def of_age(seconds):
    # An older time of change is not for a program to set, so that one which is at rest has to be waited for.
    changed_s = time.time() - seconds
    for path in folder.rglob("*"):
        os.utime(path, (changed_s, changed_s))
of_age(-3600)
young = readings(lambda: (open_prepared(folder), open_prepared(folder)))
of_age(3600)
time.sleep(2.1)
rested = readings(lambda: (open_prepared(folder), open_prepared(folder)))
json.dump([young, rested, readings(after_a_change)], sys.stdout)
"""


def test_open_again_reads_only_what_may_have_changed(prepared: Prepared) -> None:
    """`mlp run` opens the same gigabytes three times: a file is hashed once, unless it was written a moment ago, or since."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN_THRICE, prepared.folder], capture_output=True, text=True, check=True, timeout=600
    )
    young, rested, changed = json.loads(done.stdout)
    assert (young, rested, changed) == (2, 1, 1)


@pytest.mark.parametrize("name", ["train.tokens", "tokenizer/tokenizer.json"])
def test_open_cut_file_names_it_and_both_sizes(prepared: Prepared, name: str) -> None:
    """A full disk, a copy that was ended."""
    path = prepared.folder / name
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(
        DataError, match=rf"{name} has {size - 2} bytes, dataset\.json says {size}: it was cut.*{FRESH}"
    ):
        open_prepared(prepared.folder)


def test_open_missing_file_names_it(prepared: Prepared) -> None:
    """Half a data set is none."""
    (prepared.folder / "val.tokens").unlink()
    with pytest.raises(DataError, match=rf"val\.tokens is missing, though dataset\.json names it.*{FRESH}"):
        open_prepared(prepared.folder)


def test_open_file_that_cannot_be_read_gives_the_reason(prepared: Prepared) -> None:
    """A file stands where the tokenizer's folder should."""
    (prepared.folder / "tokenizer" / "tokenizer.json").unlink()
    (prepared.folder / "tokenizer").rmdir()
    (prepared.folder / "tokenizer").write_text("in the way")
    with pytest.raises(DataError, match=rf"tokenizer\.json cannot be read: Not a directory.*{FRESH}"):
        open_prepared(prepared.folder)


def test_open_missing_manifest_says_it_is_no_whole_data_set(prepared: Prepared) -> None:
    """It is written last."""
    (prepared.folder / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"is no whole data set: dataset\.json is missing; run `mlp prepare"):
        open_prepared(prepared.folder)


def test_open_missing_folder_says_how_to_make_it(tmp_path: Path) -> None:
    """Nothing was prepared yet."""
    with pytest.raises(DataError, match=rf"{tmp_path}/none is missing; run `mlp prepare"):
        open_prepared(tmp_path / "none")


def test_open_unreadable_manifest_gives_the_reason(tmp_path: Path) -> None:
    """A folder stands in its place."""
    (tmp_path / "dataset.json").mkdir()
    with pytest.raises(DataError, match=rf"dataset\.json cannot be read: Is a directory.*{FRESH}"):
        open_prepared(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 99}, r"contradicts itself: fingerprint is .*edited, or mixed from two"),
        ({"token_type": "uint32"}, r"contradicts itself"),
        ({"tokenizer": {"kind": "char", "fingerprint": "0"}}, r"contradicts itself"),
        ({"vocab_size": "many"}, r"is damaged: vocab_size: Input should be a valid integer"),
        ({"schema_version": 3}, r"is damaged: schema_version: Input should be 1 or 2"),
        ({"extra": 1}, r"is damaged: extra: Extra inputs are not permitted"),
    ],
)
def test_open_edited_manifest_says_what_is_wrong(prepared: Prepared, changes: dict[str, object], message: str) -> None:
    """Another vocabulary is not slipped under the same tokens."""
    edit(prepared, **changes)
    with pytest.raises(DataError, match=rf"dataset\.json {message}.*{FRESH}"):
        open_prepared(prepared.folder)


def test_open_manifest_that_is_no_json_says_so(prepared: Prepared) -> None:
    """Cut in the middle."""
    path = prepared.folder / "dataset.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(DataError, match=r"dataset\.json is damaged: the whole file: Invalid JSON"):
        open_prepared(prepared.folder)


def test_tokens_of_a_split_that_is_not_there_name_those_that_are(prepared: Prepared) -> None:
    """A test split is made on demand."""
    with pytest.raises(
        DataError,
        match=r"has no split 'test' \(it has: train, val\); to have one, prepare and train with --set prepare\.test_fraction=0\.1",
    ):
        prepared.tokens("test")
    with pytest.raises(DataError, match=r"has no split 'dev' \(it has: train, val\)\."):
        prepared.document_starts("dev")
