"""The ledger balances for every source, whatever is prepared from it; copies are found and left out exactly."""

import csv
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.configuration.families import SOURCES
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import load_object
from ml_playground.data_pipeline.building import build_dataset
from ml_playground.data_pipeline.ledger import Ledger, imbalances
from ml_playground.data_pipeline.lost_places import MOST_ROWS
from ml_playground.data_pipeline.manifest import open_prepared
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.progress import no_report
from ml_playground.data_pipeline.settings import PythonStdlib, TextFile, UrlText
from ml_playground.data_pipeline.source_counts import CountingSource
from ml_playground.data_pipeline.source_protocol import Source
from ml_playground.data_pipeline.sources.python_stdlib import StandardLibrary
from ml_playground.data_pipeline.sources.text_file import TextFiles
from ml_playground.data_pipeline.sources.url_text import UrlSource
from tests.fakes.local_fetch import LocalFetch
from tests.fakes.prepared_text import text_settings, write_texts

NOW = datetime(2026, 1, 2, tzinfo=UTC)

names = st.text(alphabet="abcdefgh", min_size=1, max_size=4)
# Few letters, so that copies occur, and characters that only some documents hold.
bodies = st.text(alphabet="ab\né你\U0001f40e", max_size=9)
contents = st.dictionaries(names, bodies, min_size=3, max_size=9)
tokenizers = st.sampled_from(["char", "byte", {"kind": "byte_bpe", "vocab_size": 260}])


def text_files(folder: Path, files: Mapping[str, str]) -> Source:
    """Each a document."""
    write_texts(folder, {f"{name}.txt": body for name, body in files.items()})
    return TextFiles(TextFile(path=folder))


def one_address(folder: Path, files: Mapping[str, str]) -> Source:
    """All of them as one document."""
    content = "".join(files.values()).encode()
    # Each its own, for texts of an address are kept.
    url = f"https://example.org{folder}"
    return UrlSource(UrlText(url=url), Deps(fetch=LocalFetch({url: content})))


def library(folder: Path, files: Mapping[str, str]) -> Source:
    """Each a module; one more is not UTF-8, one is empty."""
    write_texts(folder, {f"{name}.py": body for name, body in files.items()} | {"zz1.py": ""})
    (folder / "zz2.py").write_bytes(b"\xff latin")
    return StandardLibrary(PythonStdlib(), folder)


def rows_of_csv(folder: Path, files: Mapping[str, str]) -> Source:
    """Each a row."""
    folder.mkdir()
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "x"), *((files[name], name) for name in sorted(files))])
    return built("csv_text", path=str(folder), template="{content}")


def rows_of_json(folder: Path, files: Mapping[str, str]) -> Source:
    """Each an object; one more has no text, one is broken."""
    lines = [json.dumps({"text": files[name]}) for name in sorted(files)]
    write_texts(folder, {"a.jsonl": "\n".join([*lines, '{"x": 1}', "broken"])})
    return built("jsonl_text", path=str(folder), template="{content}", broken_rows="skip")


def rows_of_parquet(folder: Path, files: Mapping[str, str]) -> Source:
    """Each a row, and one is null."""
    folder.mkdir()
    pq.write_table(pa.table({"text": [*(files[name] for name in sorted(files)), None]}), folder / "train.parquet")
    return built("parquet", path=str(folder), template="{content}")


def rows_of_the_library(folder: Path, files: Mapping[str, str]) -> Source:
    """The same in a folder for the library `datasets`."""
    rows_of_parquet(folder, files)
    return built("hub_dataset", path=str(folder), template="{content}")


def minutes(folder: Path, files: Mapping[str, str]) -> Source:
    """Each a speech."""
    said = "".join(f"<sp who='A'><p>{files[name]}</p><stage>(x)</stage></sp>" for name in sorted(files))
    write_texts(folder, {"a.xml": f"<TEI><text><body><div>{said}</div></body></text></TEI>"})
    return built("tei_xml", path=str(folder), document="speech", tags=["paragraph"])


def two_parts(folder: Path, files: Mapping[str, str]) -> Source:
    """All of them as files and as rows, the one less than the other."""
    text_files(folder / "a", files)
    rows_of_json(folder / "b", files)
    parts = {
        "a": {"kind": "text_file", "path": str(folder / "a")},
        "b": {"kind": "jsonl_text", "path": str(folder / "b"), "broken_rows": "skip"},
    }
    return built("mixture", parts=parts, weights={"a": 2})


def built(kind: str, **chosen: Any) -> Source:
    """A source as its settings make it."""
    row = SOURCES[kind]
    return load_object(row.build)(load_object(row.settings).model_validate_json(json.dumps(chosen)), Deps())


MADE_FROM: Mapping[str, Callable[[Path, Mapping[str, str]], Source]] = {
    "text_file": text_files,
    "url_text": one_address,
    "python_stdlib": library,
    "csv_text": rows_of_csv,
    "jsonl_text": rows_of_json,
    "parquet": rows_of_parquet,
    "hub_dataset": rows_of_the_library,
    "tei_xml": minutes,
    "mixture": two_parts,
}


def documents_of(kind: str, files: Mapping[str, str], source: Source) -> list[str]:
    """The documents that a source of these files has."""
    texts = [files[name] for name in sorted(files)]
    if kind == "url_text":
        return ["".join(files.values())]
    if kind == "tei_xml":
        return [f"<paragraph> {' '.join(text.split())}\n" for text in texts if text.split()]
    if kind == "mixture":
        return [document.text for document in source.documents()]
    return [text for text in texts if (text if kind in {"text_file", "python_stdlib"} else text.strip())]


SKIPPED_BYTES = {"python_stdlib": 7}


def test_every_source_is_under_the_law() -> None:
    """A new source of text joins it; images have a law of their own."""
    assert set(MADE_FROM) == {kind for kind, row in SOURCES.items() if load_object(row.settings).modality == "text"}


def prepared_from(source: Source, folder: Path, **wanted: Any) -> tuple[Ledger, list[int]]:
    """The ledger, and how many tokens lie in the files."""
    folder.mkdir()
    # The source is given as an object; the settings only say what is done with it.
    asked = text_settings(Path("unused"), **wanted)
    manifest = build_dataset(folder, asked, source, NOW, 1, no_report)
    opened = open_prepared(folder)
    return manifest.ledger, [len(opened.tokens(split)) for split in manifest.splits]


@pytest.mark.parametrize("kind", sorted(MADE_FROM))
@given(
    files=contents,
    tokenizer=tokenizers,
    split_by=st.sampled_from(["position", "document", "hash"]),
    fractions=st.sampled_from([(0.1, 0.0), (0.3, 0.2), (0.5, 0.0)]),
    duplicates=st.sampled_from(["keep", "drop"]),
)
@settings(max_examples=25)
def test_ledger_of_any_source_balances(
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, str],
    tokenizer: Any,
    split_by: str,
    fractions: tuple[float, float],
    duplicates: str,
) -> None:
    """Each file, document, character, byte, token and end of document is found again exactly once, those left out among them."""
    base = tmp_path_factory.mktemp("ledger")
    files = files | {f"y{number}": f"some text {number}" for number in range(3)}
    source = MADE_FROM[kind](base / "source", files)
    val, test = fractions
    refusal = ""
    try:
        ledger, in_files = prepared_from(
            source,
            base / "data",
            tokenizer=tokenizer,
            split_by=split_by,
            val_fraction=val,
            test_fraction=test,
            duplicates=duplicates,
        )
    except DataError as error:
        refusal = str(error)
    if refusal:
        # Documents are whole in a split, so that few of them may leave one empty.
        assert split_by != "position"
        assert any(words in refusal for words in ("puts none of the", "too few for", "training part holds no text"))
        return
    documents = documents_of(kind, files, source)
    assert imbalances(ledger) == []
    assert (ledger.offered is not None) == isinstance(source, CountingSource)
    assert ledger.documents == len(documents)
    assert ledger.characters == sum(map(len, documents))
    assert ledger.bytes == sum(len(text.encode()) for text in documents)
    assert ledger.losses is not None
    assert ledger.losses.copies.documents == len(documents) - len(set(documents))
    assert ledger.losses.skipped_bytes.get("not_utf8", 0) == SKIPPED_BYTES.get(kind, 0)
    assert in_files == [counts.tokens for counts in ledger.splits.values()]
    left_out = sum(counts.documents for counts in ledger.dropped.values())
    assert left_out == (ledger.losses.copies.documents if duplicates == "drop" else 0)
    parts = [*ledger.splits.values(), *ledger.dropped.values()]
    if tokenizer == "char":
        assert sum(counts.text_tokens for counts in parts) == ledger.characters
    elif tokenizer == "byte":
        assert sum(counts.text_tokens for counts in parts) == ledger.bytes


@given(files=contents, split_by=st.sampled_from(["position", "document"]), val=st.sampled_from([0.1, 0.3, 0.5]))
@settings(max_examples=25)
def test_unknown_bytes_are_those_of_characters_the_training_part_lacks(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, str], split_by: str, val: float
) -> None:
    """Counted one by one; and the worst rows point at such a character, by offset and by line."""
    base = tmp_path_factory.mktemp("unknown")
    files = files | {f"y{number}": f"some text {number}" for number in range(3)}
    ledger, _ = prepared_from(text_files(base / "source", files), base / "data", split_by=split_by, val_fraction=val)
    known = json.loads((base / "data" / "tokenizer" / "tokenizer.json").read_text())["characters"]
    lost = {
        f"{name}.txt": sum(len(letter.encode()) for letter in body if letter not in known)
        for name, body in files.items()
    }
    assert sum(lost.values()) == sum(counts.unknown_bytes for counts in ledger.splits.values())
    assert ledger.lost_bytes().get("unknown", 0) == sum(lost.values())
    assert ledger.losses is not None
    by_name = {row.name: row for row in ledger.losses.rows}
    assert {name: row.bytes for name, row in by_name.items()} == {
        name: size for name, size in lost.items() if size and name in by_name
    }
    assert len(by_name) == min(MOST_ROWS, sum(size > 0 for size in lost.values()))
    for name, row in by_name.items():
        body = files[name.removesuffix(".txt")]
        first = next(place for place, letter in enumerate(body) if letter not in known)
        assert (row.character, row.line) == (first, body.count("\n", 0, first) + 1)
        assert body[first:].startswith(row.excerpt)


@given(files=contents, split_by=st.sampled_from(["position", "document"]))
@settings(max_examples=20, deadline=None)
def test_dropped_duplicates_give_the_data_set_of_the_texts_without_them(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, str], split_by: str
) -> None:
    """Equal to the token: who deletes the copies by hand trains the same."""
    base = tmp_path_factory.mktemp("copies")
    files = {f"{name}.txt": body for name, body in files.items()} | {f"y{n}.txt": f"some text {n}" for n in range(3)}
    seen: set[str] = set()
    without: dict[str, str] = {}
    for name in sorted(files):
        if files[name] not in seen:
            without[name] = files[name]
            seen.add(files[name])
    bpe = {"kind": "byte_bpe", "vocab_size": 260}
    made = [
        prepare(
            text_settings(write_texts(base / place, texts), tokenizer=bpe, split_by=split_by, duplicates="drop"),
            Deps(),
        )
        for place, texts in (("all", files), ("without", without))
    ]
    assert made[0].fingerprint == made[1].fingerprint
    assert made[1].manifest.ledger.dropped == {}
