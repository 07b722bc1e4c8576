"""Sources of text over small and large inputs: peak memory, which must not grow with them, and megabytes a second of processor time."""

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import datasets
import pyarrow
import pyarrow.parquet
import zstandard
from tables import Row, Table, command_line, progress, publish

# The source twice: its files for their hashes, and all of its documents. Memory that is anonymous is the process's own; a data set of
# the library `datasets` is a map of its files, whose pages the system takes back when it needs them.
READ = """
import json, sys, threading, time
from ml_playground.configuration.families import SOURCES
from ml_playground.core.deps import Deps
from ml_playground.core.registry import load_object
settings = json.loads(sys.argv[1])
peak, done = [0.0, 0.0], threading.Event()
def watch():
    while not done.wait(0.02):
        with open("/proc/self/status") as file:
            lines = dict(line.split(":") for line in file)
        for place, key in enumerate(("RssAnon", "VmRSS")):
            peak[place] = max(peak[place], int(lines[key].split()[0]) / 1024)
row = SOURCES[settings["kind"]]
source = load_object(row.build)(load_object(row.settings).model_validate_json(sys.argv[1]), Deps())
threading.Thread(target=watch).start()
before = time.process_time()
try:
    source.provenance()
    hashed = time.process_time()
    documents = characters = 0
    last = None
    for document in source.documents():
        documents += document.id != last
        last = document.id
        characters += len(document.text)
    read = time.process_time()
finally:
    done.set()
figures = {"peak": peak[1], "own": peak[0], "hash_s": hashed - before, "read_s": read - hashed}
print(json.dumps(figures | {"documents": documents, "characters": characters}))
"""
WORDS = [
    f"{start}{end}"
    for start in ("be", "conti", "mo", "reli", "sta", "über", "wa")
    for end in ("", "n", "ter", "ing", "s")
]
BLOCK_ROWS = 2_000
LARGE_MB, SMALL_MB = 1_000, 50


def speeches() -> list[dict[str, Any]]:
    """Rows of some 600 bytes, with line ends, quotes and umlauts."""
    dice = random.Random(1)
    return [
        {
            "date": f"19{number % 50 + 50}-05-04",
            "speaker": f"Redner {number % 97}",
            "party": "SPD" if number % 3 else None,
            "text": f'"{number}"\n' + " ".join(dice.choices(WORDS, k=100)),
        }
        for number in range(BLOCK_ROWS)
    ]


def csv_block(rows: list[dict[str, Any]]) -> bytes:
    """The rows as CSV."""
    return "".join(
        ";".join(f'"{(value or "").replace(chr(34), chr(34) * 2)}"' for value in row.values()) + "\n" for row in rows
    ).encode()


def tei_block(rows: list[dict[str, Any]]) -> bytes:
    """The rows as speeches."""
    return "".join(
        f'<sp who="{row["speaker"]}" party="SPD"><p>{row["text"]}</p><stage>(Beifall)</stage></sp>\n' for row in rows
    ).encode()


def opened(path: Path) -> IO[bytes]:
    """A file to be written, packed if its name says so."""
    if path.suffix == ".gz":
        return gzip.open(path, "wb", compresslevel=1)
    return zstandard.open(path, "wb") if path.suffix == ".zst" else path.open("wb")


def write(path: Path, block: bytes, size_mb: int, head: bytes = b"", tail: bytes = b"") -> Path:
    """A file of that size out of equal blocks; returns it."""
    with opened(path) as file:
        file.write(head)
        for _ in range(size_mb * 1_000_000 // len(block) + 1):
            file.write(block)
        file.write(tail)
    return path


def inputs(folder: Path, size_mb: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each source by name, its input written before and removed after it was measured."""
    rows = speeches()
    text = "\n".join(row["text"] for row in rows).encode()
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    head = b"<TEI><text><body><div>"
    csv_settings = {"kind": "csv_text", "template": "{speaker} ({party}), {year}\n{content}\n"}
    for ending in ("", ".gz", ".zst"):
        yield f"text_file{ending}", {"kind": "text_file", "path": str(write(folder / f"a.txt{ending}", text, size_mb))}
    yield (
        "csv_text",
        csv_settings | {"path": str(write(folder / "a.csv", csv_block(rows), size_mb, b"date;speaker;party;text\n"))},
    )
    yield "jsonl_text", {"kind": "jsonl_text", "path": str(write(folder / "a.jsonl", lines, size_mb))}
    path = write(folder / "a.xml", tei_block(rows), size_mb, head, b"</div></body></text></TEI>")
    yield "tei_xml, one sitting", {"kind": "tei_xml", "path": str(path)}
    yield "tei_xml, speeches", {"kind": "tei_xml", "path": str(path), "document": "speech"}
    table = pyarrow.Table.from_pylist(rows)
    blocks = size_mb * 1_000_000 // len(text)
    for name, groups in (("many row groups", 1), ("one row group", blocks)):
        with pyarrow.parquet.ParquetWriter(folder / "a.parquet", table.schema, use_dictionary=False) as file:
            for _ in range(blocks // groups):
                file.write_table(pyarrow.concat_tables([table] * groups), row_group_size=BLOCK_ROWS * groups)
        yield f"parquet, {name}", {"kind": "parquet", "path": str(folder / "a.parquet")}
    datasets.disable_progress_bars()
    datasets.concatenate_datasets([datasets.Dataset(table)] * blocks).save_to_disk(folder / "saved")
    yield "hub_dataset, saved", {"kind": "hub_dataset", "path": str(folder / "saved")}
    parts = {
        "a": {"kind": "csv_text", "path": str(folder / "a.csv")},
        "b": {"kind": "jsonl_text", "path": str(folder / "a.jsonl")},
    }
    for ends in ("first_exhausted", "all_exhausted"):
        yield f"mixture, {ends}", {"kind": "mixture", "parts": parts, "weights": {"a": 3}, "epoch_ends": ends}


def measured(settings: dict[str, Any]) -> dict[str, float]:
    """Figures of one reading in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(settings)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise SystemExit(done.returncode)
    return json.loads(done.stdout)


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Small against large, source by source."""
    sizes = (5, 25) if options.quick else (SMALL_MB, LARGE_MB)
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size_mb in sizes:
            place = Path(folder, str(size_mb))
            place.mkdir()
            for name, settings in inputs(place, size_mb):
                progress(f"{size_mb} MB: {name}")
                found.setdefault(name, []).append(measured(settings))
    rows = [
        Row(
            [
                name,
                int(large["documents"]),
                large["characters"] / 1e6 / large["read_s"],
                large["characters"] / 1e6 / large["hash_s"],
                small["own"],
                large["own"],
                large["peak"],
            ]
        )
        for name, (small, large) in found.items()
    ]
    grown = [name for name, (small, large) in found.items() if large["own"] > small["own"] + 32]
    columns = [
        "source",
        "documents",
        "read, MB/s",
        "hashed, MB/s",
        f"peak of its own at {sizes[0]} MB, MB",
        f"at {sizes[1]} MB, MB",
        "with mapped files, MB",
    ]
    notes = [
        f"Text of {sizes[0]} and {sizes[1]} MB, a process each; millions of characters given for each second of a core.",
        "Memory with Python and what the source imports; mapped files are the system's to take back.",
    ]
    problems = [f"{name}: memory grows with the input" for name in grown]
    yield Table("source_memory", "Sources of text: speed and peak memory", columns, rows, notes, problems)


if __name__ == "__main__":
    publish(tables, command_line(__doc__))
