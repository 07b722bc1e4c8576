"""Data sets of the library `datasets`, all of it offline: folders of its own, folders of files, names that cannot be had."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.sources.hub_dataset import HubRows, build
from ml_playground.data_pipeline.sources.settings import HubDataset

ROWS = {"text": ["one", "", "two", None], "speaker": ["Ann", "Bert", "Carl", "Dora"]}


@pytest.fixture(autouse=True)
def quiet() -> None:
    """No bars while the tests write their data sets."""
    datasets.disable_progress_bars()


def source(path: Path, **settings: Any) -> HubRows:
    """The source over a folder."""
    return build(HubDataset.model_validate({"path": path, **settings}), Deps())


def saved(folder: Path, how: str) -> Path:
    """The rows in each form that a folder may have; the split `test` has the first row alone."""
    rows = datasets.Dataset.from_dict(ROWS)
    if how == "one":
        rows.save_to_disk(folder / how)
    elif how == "dict":
        datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(folder / how)
    elif how == "parquet":
        (folder / how / "data").mkdir(parents=True)
        pq.write_table(pa.table(ROWS), folder / how / "data" / "train-00000-of-00001.parquet")
        pq.write_table(pa.table(ROWS).slice(0, 1), folder / how / "data" / "test-00000-of-00001.parquet")
    else:
        (folder / how).mkdir()
        lines = [json.dumps(dict(zip(ROWS, row, strict=True))) for row in zip(*ROWS.values(), strict=True)]
        (folder / how / "train.jsonl").write_text("\n".join(lines))
        (folder / how / "test.jsonl").write_text(lines[0])
    return folder / how


@pytest.mark.parametrize("how", ["one", "dict", "parquet", "jsonl"])
def test_rows_of_a_folder_are_documents(tmp_path: Path, how: str) -> None:
    """In each of its forms, twice alike; those without text are counted."""
    one = source(saved(tmp_path, how), template="{speaker}: {content}")
    expected = [("train:1", "Ann: one"), ("train:3", "Carl: two")]
    assert [(document.id, document.text) for document in one.documents()] == expected
    assert [(document.id, document.text) for document in one.documents()] == expected
    assert one.counts().left_out["no_content"].places == ("train:2", "train:4")


@pytest.mark.parametrize("how", ["dict", "parquet", "jsonl"])
def test_split_that_is_named_is_read(tmp_path: Path, how: str) -> None:
    """Not the training part alone."""
    assert [one.id for one in source(saved(tmp_path, how), split="test").documents()] == ["test:1"]


def test_provenance_lists_the_files_and_notices_a_change(tmp_path: Path) -> None:
    """What the library keeps beside them, and hidden files, do not count."""
    folder = saved(tmp_path, "parquet")
    before = source(folder).provenance()
    assert [file.name for file in before.files] == [
        "data/test-00000-of-00001.parquet",
        "data/train-00000-of-00001.parquet",
    ]
    (folder / "cache-1.arrow").write_text("x")
    (folder / ".hidden").write_text("x")
    assert source(folder).provenance() == before
    pq.write_table(pa.table({"text": ["other"]}), folder / "data" / "train-00000-of-00001.parquet")
    assert source(folder).provenance().content != before.content


def test_date_that_no_calendar_has_says_so(tmp_path: Path) -> None:
    """As for a Parquet file alone."""
    table = pa.table({"text": ["a"], "date": pa.array([10**8], pa.int32()).cast(pa.date32())})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"cannot be read as a data set: date value out of range\. Name a folder"):
        list(source(tmp_path, template="{date} {content}").documents())


def test_script_in_the_folder_is_never_run(tmp_path: Path) -> None:
    """Rows that only code would make are refused; the library no longer runs it, and says so in an error of its own."""
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "rows.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(
        DataError, match=r"cannot be read as a data set: .*scripts.*Name a folder that save_to_disk wrote"
    ):
        list(source(folder).documents())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("how", "settings", "message"),
    [
        ("one", {"split": "dev"}, r"holds one data set without splits; leave prepare\.source\.split out"),
        ("dict", {"split": "dev"}, r"has no split 'dev' \(it has: train, test\); set prepare\.source\.split"),
        ("parquet", {"split": "dev"}, r"cannot be read as a data set: .*dev.*Name a folder that save_to_disk wrote"),
        (
            "one",
            {"template": "{party} {content}"},
            r"has the columns 'text', 'speaker', none of which is called like a pa",
        ),
    ],
)
def test_folder_that_does_not_fit_says_what_to_set(
    tmp_path: Path, how: str, settings: dict[str, str], message: str
) -> None:
    """Splits and columns."""
    with pytest.raises(DataError, match=message):
        list(source(saved(tmp_path, how), **settings).documents())


@pytest.mark.parametrize("use", ["documents", "provenance"])
@pytest.mark.parametrize("name", ["no", "file", "empty"])
def test_folder_that_is_none_says_so(tmp_path: Path, use: str, name: str) -> None:
    """Missing, a file, or with nothing in it."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=rf"{name} .*(name the folder|Name a folder)"):
        list(getattr(source(tmp_path / name), use)())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"set exactly one of path \(got None\) and name \(got None\)"),
        ({"path": "a", "name": "b/c"}, r"set exactly one of path \(got a\) and name \(got b/c\)"),
        ({"path": "a", "subset": "x"}, "subset has no effect on a folder"),
        ({"path": "a", "revision": "x"}, "revision has no effect on a folder"),
        ({"name": "../etc"}, "pattern"),
    ],
)
def test_settings_name_one_place(settings: dict[str, str], message: str) -> None:
    """Before anything is opened."""
    with pytest.raises(ValidationError, match=message):
        HubDataset.model_validate_json(json.dumps(settings))


def test_name_that_is_a_folder_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would read the folder, and nobody would notice."""
    saved(tmp_path, "parquet")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"prepare\.source\.name = 'parquet' is also a file or folder here.*set prepare\.sou"
    ):
        build(HubDataset.model_validate({"name": "parquet"}), Deps()).provenance()


@pytest.mark.slow
def test_name_on_the_hub_without_a_network_says_what_to_do(tmp_path: Path) -> None:
    """One line, exit code 2; the ways out are named."""
    words = ["--set", 'prepare.source={kind="hub_dataset", name="nobody/nothing"}']
    done = subprocess.run(
        [sys.executable, "-m", "ml_playground.cli", "prepare", "python_stdlib", *words],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "MLP_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 2
    assert "nobody/nothing cannot be had from the hub" in done.stderr
    assert "save_to_disk(FOLDER), bring that folder" in done.stderr
    assert "Traceback" not in done.stderr
