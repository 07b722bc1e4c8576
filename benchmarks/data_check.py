"""`mlp data check` over large files, and over one row repeated: megabytes a second of processor time, and peak memory."""

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tables import Row, Table, command_line, progress, publish

# Enough that hardly a row or paragraph stands there twice, few enough that it compresses like prose.
WORDS = [
    f"{start}{end}"
    for start in ("be", "conti", "mo", "reli", "sta", "über", "wa", "zeit")
    for end in ("", "n", "ter", "ing", "lich", "s")
]
BLOCK_ROWS = 2000
MEBIBYTE = 1 << 20


def sentence(dice: random.Random, words: int) -> str:
    """Some words that nobody has put together before."""
    return " ".join(dice.choices(WORDS, k=words))


def text_block(dice: random.Random) -> bytes:
    """Paragraphs of some 300 bytes in lines of 80."""
    paragraphs = ("\n".join(sentence(dice, 12) for _ in range(4)) for _ in range(BLOCK_ROWS))
    return ("\n\n".join(paragraphs) + "\n\n").encode()


def row_block(dice: random.Random) -> bytes:
    """Chats of some 500 bytes; one in a thousand twice."""
    rows = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": sentence(dice, 20)},
                    {"role": "assistant", "content": sentence(dice, 40)},
                ]
            },
            ensure_ascii=False,
        )
        for _ in range(BLOCK_ROWS)
    ]
    rows[::1000] = rows[1::1000]
    return ("\n".join(rows) + "\n").encode()


def equal_block(_: random.Random) -> bytes:
    """One short row over and over: the most rows a file can hold, and all of one key."""
    return b'{"prompt": "Yes?", "answer": "No"}\n' * BLOCK_ROWS


def write(path: Path, size_mb: int, block: Callable[[random.Random], bytes]) -> None:
    """A file of that size, of a few blocks with other words each time."""
    dice = random.Random(7)
    blocks = [block(dice) for _ in range(8)]
    with path.open("wb") as file:
        number = 0
        while file.tell() < size_mb * 1_000_000:
            # Another word in nearly every row and paragraph makes it another one, at the price of a replacement.
            file.write(blocks[number % len(blocks)].replace(b"be", b"be%d" % number))
            number += 1


def checked(path: Path, *words: str) -> dict[str, Any]:
    """What one check found, what it took: seconds of processor time and the peak of its memory, in a process of its own."""
    command = [sys.executable, "-m", "ml_playground.cli", "data", "check", str(path), "--json", *words]
    out = path.with_suffix(".found")
    with out.open("wb") as file:
        process = os.posix_spawn(
            command[0],
            command,
            os.environ | {"OMP_NUM_THREADS": "1"},
            file_actions=[(os.POSIX_SPAWN_DUP2, file.fileno(), 1)],
        )
        _, status, usage = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{path} was not checked: exit code {os.waitstatus_to_exitcode(status)}")
    found = json.loads(out.read_text(encoding="utf-8"))
    return {"seconds": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024, "found": found}


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Texts, rows and one row over and over, smaller and larger: memory must not grow with them."""
    sizes = [50, 200] if options.quick else [200, 2000]
    # These rows are fifteen times shorter, and cost as much each.
    kinds = (("text", text_block, "txt", 1), ("rows", row_block, "jsonl", 1), ("equal rows", equal_block, "jsonl", 10))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, block, ending, fewer in kinds:
            for size_mb in (size // fewer for size in sizes):
                path = Path(folder) / f"{size_mb}.{ending}"
                progress(f"{kind}: writing {size_mb} MB")
                write(path, size_mb, block)
                progress(f"{kind}: checking {size_mb} MB")
                figures = checked(path)
                size = path.stat().st_size / 1e6
                codes = ", ".join(f"{one['code']} {one['count']}" for one in figures["found"]["findings"])
                rows.append(
                    Row([kind, size, figures["found"]["rows"], size / figures["seconds"], figures["peak_mb"], codes])
                )
                path.unlink()
    columns = ["kind", "MB", "lines or rows", "MB/s of processor time", "peak memory, MB", "found"]
    notes = [
        "Paragraphs of 300 bytes, chats of 500, and one of 34 over and over; processor time of the whole command, its start included."
    ]
    yield Table("data_check", "Checking data", columns, rows, notes)


if __name__ == "__main__":
    publish(tables, command_line(__doc__))
