"""docs/sources.md: every block of settings is prepared, checked and accounted for; and no source holds what it reads."""

import gc
import json
import re
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_playground.cli import main
from ml_playground.configuration.families import SOURCES
from ml_playground.configuration.loading import load
from ml_playground.core.deps import Deps
from ml_playground.core.registry import load_object
from ml_playground.core.values import Document
from ml_playground.data_pipeline.books import open_books
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.sources import row_texts
from ml_playground.data_pipeline.sources.settings import JsonlText
from tests.fakes.prepared_text import prepare_settings, write_texts

PAGE = Path(__file__).parents[2] / "docs" / "sources.md"
BLOCKS = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
SPEECH = "<sp who='Rita {0}' party='CDU'><p>Meine Damen und Herren, das ist Rede {0}.</p><stage>(Beifall)</stage></sp>"


def write_inputs(folder: Path) -> None:
    """What the page's settings name: small, of each form."""
    numbers = range(40)
    csv = "".join(f'1999-05-04;Ann {n};SPD;Steuern;"Das ist\nRede ""{n}"""\n' for n in numbers)
    rows = "".join(json.dumps({"meta": {"text": f"Das ist Text {n}."}}) + "\n" for n in numbers)
    write_texts(
        folder,
        {f"texts/{n}.txt": f"Es war einmal die Zahl {n}.\n" for n in numbers}
        | {
            "reden.csv": f"Datum;Redner;Fraktion;Thema;Rede\n{csv};;;;\n",
            "rows/a.jsonl": f"{rows}broken\n",
            "minutes/1.xml": f"<TEI><text><body><div>{''.join(map(SPEECH.format, numbers))}</div></body></text></TEI>",
        },
    )
    table = pa.table({"title": [f"Titel {n}" for n in numbers], "text": [f"Das ist der Text {n}." for n in numbers]})
    for name in ("tables/a.parquet", "hub_folder/train-00000-of-00001.parquet"):
        (folder / name).parent.mkdir()
        pq.write_table(table, folder / name)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.search(r"^# (\w+)", block, re.MULTILINE)[1])  # type: ignore[index]
def test_settings_of_the_page_work(block: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """They prepare a text, twice the same; the books balance, and the check reads it."""
    write_inputs(tmp_path)
    (tmp_path / "source.toml").write_text(block)
    words = ["--config", str(tmp_path / "source.toml"), "--set", "prepare.tokenizer={kind='byte'}"]
    assert main(["prepare", "python_stdlib", *words]) == 0
    assert main(["prepare", "python_stdlib", *words]) == 0
    assert "already prepared, and its source is unchanged" in capfd.readouterr().out
    assert main(["data", "ledger", "python_stdlib", *words]) == 0
    assert main(["data", "check", "python_stdlib", *words]) == 0


def test_page_has_a_block_for_every_source_that_needs_one() -> None:
    """And names those that need none."""
    shown = {match for block in BLOCKS for match in re.findall(r'^kind = "(\w+)"', block, re.MULTILINE)}
    text = PAGE.read_text(encoding="utf-8")
    of_text = {kind for kind, row in SOURCES.items() if load_object(row.settings).modality == "text"}
    assert {kind for kind in of_text - shown if f"`{kind}`" not in text} == set()
    assert shown >= {"csv_text", "tei_xml", "jsonl_text", "parquet", "hub_dataset", "mixture", "text_file"}


def test_left_out_and_repeated_are_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By `mlp prepare` and `mlp data ledger`, with the first places."""
    write_inputs(tmp_path)
    mixture = next(block for block in BLOCKS if "mixture" in block)
    (tmp_path / "source.toml").write_text(mixture)
    words = ["--config", str(tmp_path / "source.toml"), "--set", "prepare.tokenizer={kind='byte'}"]
    for command in (["prepare"], ["data", "ledger"]):
        assert main([*command, "python_stdlib", *words]) == 0
        shown = capfd.readouterr().out
        assert re.search(
            r"^mixture:    speeches 7\d\.\d\d %, stories 2\d\.\d\d % of the characters$", shown, re.MULTILINE
        )
        assert re.search(r"^repeated:   \d+ documents, [\d,]+ characters$", shown, re.MULTILINE)
        assert "left out:   1 document without text (first: speeches/reden.csv:82)" in shown


def test_check_of_chats_over_a_source_of_texts_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The option would have no effect, or find that speeches are no JSON."""
    write_inputs(tmp_path)
    source = f"prepare.source={{kind='csv_text', path='{tmp_path / 'reden.csv'}'}}"
    assert main(["data", "check", "python_stdlib", "--kind", "chat", "--set", source]) == 2
    assert (
        "--kind chat is for files, and prepare.source.kind = 'csv_text' gives texts; leave it" in capfd.readouterr().err
    )


@pytest.mark.parametrize("split_by", ["position", "document", "hash"])
@pytest.mark.parametrize("source", ["csv", "mixture"])
def test_data_set_is_the_same_for_every_number_of_processes(tmp_path: Path, split_by: str, source: str) -> None:
    """One process reads; the others only learn and encode."""
    write_inputs(tmp_path)
    csv = {"kind": "csv_text", "path": str(tmp_path / "reden.csv")}
    parts = {"a": csv, "b": {"kind": "text_file", "path": str(tmp_path / "texts")}}
    chosen = csv if source == "csv" else {"kind": "mixture", "parts": parts, "weights": {"a": 2}}
    settings = prepare_settings(
        chosen, tokenizer={"kind": "byte_bpe", "vocab_size": 300}, split_by=split_by, test_fraction=0.2
    )
    found = {
        prepare(settings, Deps(), workers=workers, fresh=True).fingerprint
        for workers in ((1, 2) if split_by == "hash" else (1,))
    }
    assert len(found) == 1
    ledger = open_books(prepare(settings, Deps()).folder).manifest.ledger
    assert all(split.documents for split in ledger.splits.values())
    assert set(ledger.splits) == {"train", "val", "test"}


def repeated_source(folder: Path, kind: str, times: int) -> dict[str, Any]:
    """A source over a block of rows that is written so many times."""
    block = range(200)
    if kind == "csv_text":
        body = "".join(f'"{n}\n{"to be " * 60}",Ann\n' for n in block)
        text = "text,speaker\n" + body * times
    elif kind == "jsonl_text":
        text = "".join(json.dumps({"text": f"{n} {'to be ' * 60}"}) + "\n" for n in block) * times
    elif kind == "tei_xml":
        body = "".join(f"<sp who='A'><p>{n} {'to be ' * 60}</p></sp>" for n in block)
        text = f"<TEI><text><body><div>{body * times}</div></body></text></TEI>"
    else:
        text = "".join(f"{n} {'to be ' * 60}\n" for n in block) * times
    path = folder / f"{kind}{times}"
    path.write_text(text)
    return {"kind": kind, "path": str(path)}


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What nobody holds is gone at once: memory that waits for the collector is freed sooner or later, by what ran before."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


KINDS = ["text_file", "csv_text", "jsonl_text", "tei_xml", "mixture"]


def documents_of(folder: Path, kind: str, times: int) -> Iterator[Document]:
    """Those of a source over a block of rows that is written so many times."""
    if kind == "mixture":
        parts = {name: repeated_source(folder, name, times // 2) for name in ("csv_text", "jsonl_text")}
        chosen: dict[str, Any] = {"kind": "mixture", "parts": parts}
    else:
        chosen = repeated_source(folder, kind, times)
    row = SOURCES[chosen["kind"]]
    return load_object(row.build)(load_object(row.settings).model_validate_json(json.dumps(chosen)), Deps()).documents()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", KINDS)
def test_peak_memory_does_not_grow_with_the_input(tmp_path: Path, kind: str) -> None:
    """Six times as much text, of which the smaller fills every buffer; megabytes stand here for the gigabytes of the benchmark."""
    peaks: list[int] = []
    for times in (12, 72):
        documents = documents_of(tmp_path, kind, times)
        tracemalloc.start()
        characters = sum(len(document.text) for document in documents)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert characters > times * 60_000
    assert peaks[1] < peaks[0] * 1.3 + 300_000


def open_below(folder: Path) -> int:
    """Files of a folder that this process has open."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        # What lists them is gone by now.
        with suppress(FileNotFoundError):
            found += descriptor.readlink().is_relative_to(folder)
    return found


@pytest.mark.usefixtures("no_collector")
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is open")
@pytest.mark.parametrize("kind", KINDS)
def test_source_that_is_left_in_its_midst_has_no_file_open(tmp_path: Path, kind: str) -> None:
    """Nor is one open twice that is looked into first for its encoding and its delimiter: who reads many files has few open."""
    documents = documents_of(tmp_path, kind, 12)
    next(documents)
    assert open_below(tmp_path) == 1
    del documents
    assert open_below(tmp_path) == 0


def test_rows_of_many_shapes_are_remembered_only_so_far(tmp_path: Path) -> None:
    """Keys that are new in each row would fill the memory, too."""
    settings = JsonlText(path=tmp_path)
    texts = row_texts.RowTexts(settings, "a.jsonl", tables=False)
    made = texts.documents(row_texts.Row(str(n), {"text": "Hi", f"key {n}": n}) for n in range(6_000))
    tracemalloc.start()
    assert sum(1 for _ in made) == 6_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_experiment_with_a_mixture_loads_shows_and_round_trips(tmp_path: Path) -> None:
    """A part's path counts from the file that names it, whatever the working directory."""
    write_inputs(tmp_path)
    (tmp_path / "source.toml").write_text(next(block for block in BLOCKS if "mixture" in block))
    job = load("python_stdlib", files=[tmp_path / "source.toml"]).job
    assert job.prepare.source.model_dump(mode="json")["parts"]["stories"]["path"] == str(tmp_path / "texts")
    assert type(job).model_validate_json(job.model_dump_json()) == job
