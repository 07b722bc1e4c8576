"""Text to ids: engines side by side, then `mlp prepare` end to end with its peak memory, by tokenizer and number of processes."""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tables import Row, Table, command_line, progress, publish

from ml_playground.core.deps import Deps
from ml_playground.core.machine import probe
from ml_playground.data_pipeline.encoding import cut
from ml_playground.data_pipeline.settings import PythonStdlib
from ml_playground.data_pipeline.sources.python_stdlib import build
from ml_playground.tokenization.byte_bpe import ByteBpeTokenizer
from ml_playground.tokenization.byte_letters import BYTE_OF_LETTER
from ml_playground.tokenization.char import CharTokenizer
from ml_playground.tokenization.settings import ByteBpe, Char

PROGRAM = """
import json, sys, time
from ml_playground.configuration.loading import load
from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.preparer import prepare
path, kind, workers = sys.argv[1:]
sets = ['prepare.source={kind="text_file", path="' + path + '"}', 'prepare.tokenizer={kind="' + kind + '"}', "prepare.split_by=position"]
job = load("python_stdlib", sets=sets).job
began = time.perf_counter()
prepared = prepare(job.prepare, Deps(), workers=int(workers), fresh=True)
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "fingerprint": prepared.fingerprint, "torch": "torch" in sys.modules}))
"""
# Source: https://github.com/openai/gpt-2/blob/master/src/encoder.py
GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

Engine = Callable[[Sequence[str]], Sequence[Any]]


def stdlib_text() -> str:
    """The interpreter's own sources: 12 million characters, a few thousand of them beyond ASCII."""
    return "".join(document.text for document in build(PythonStdlib(), Deps()).documents())


def reloaded(tokenizer: ByteBpeTokenizer) -> ByteBpeTokenizer:
    """The same, knowing no word yet."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        return ByteBpeTokenizer.load(Path(folder))


def tiktoken_engine(tokenizer: ByteBpeTokenizer) -> Engine | None:
    """Tiktoken with our own ranks, on two threads; none where it is not installed."""
    if importlib.util.find_spec("tiktoken") is None:
        return None
    import tiktoken

    ranks = {
        bytes(BYTE_OF_LETTER[letter] for letter in token): index
        for index, token in enumerate(tokenizer.content["vocabulary"])
        if index
    }
    encoding = tiktoken.Encoding("ours", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 0})
    return lambda texts: encoding.encode_ordinary_batch(list(texts), num_threads=2)


def encoding_table(text: str, rounds: int) -> Table:
    """Engines in turn over the same chunks, with the same vocabulary of 8,192."""
    chunks = list(cut([text], ByteBpeTokenizer.safe_cut))
    size_mb = len(text.encode()) / 1e6
    bpe = ByteBpeTokenizer.train(chunks, ByteBpe())
    char = CharTokenizer.train(chunks, Char())
    place = {character: index for index, character in enumerate(sorted(set(text)))}
    library = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab={token: index for index, token in enumerate(bpe.content["vocabulary"])},
            merges=[tuple(merge) for merge in bpe.content["merges"]],
        )
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    # Made anew for each round, before the clock runs.
    engines: dict[str, Callable[[], Engine]] = {
        "BPE: ours, one core, no word known": lambda: reloaded(bpe).encode_arrays,
        "BPE: ours, one core, all words known": lambda: bpe.encode_arrays,
        "BPE: tokenizers, one text at a time": lambda: lambda texts: [library.encode(one).ids for one in texts],
        "BPE: tokenizers, batches, all cores": lambda: (
            lambda texts: [one.ids for one in library.encode_batch_fast(texts)]
        ),
        "characters: ours, one core": lambda: char.encode_arrays,
        "characters: a loop of Python": lambda: lambda texts: [[place[one] for one in text] for text in texts],
    }
    if peer := tiktoken_engine(bpe):
        engines["BPE: tiktoken with our ranks, two threads"] = lambda: peer
    bpe.encode_arrays(chunks)
    rates: dict[str, list[float]] = {name: [] for name in engines}
    equal: dict[str, bool] = {}
    expected = {"BPE": bpe.encode_arrays(chunks), "cha": char.encode_arrays(chunks)}
    for number in range(rounds):
        for name, make in engines.items():
            progress(f"encoding, round {number + 1}: {name}")
            engine = make()
            began = time.perf_counter()
            # Chunk by chunk in groups of eight, as preparing does: memory stays bounded.
            got = [ids for start in range(0, len(chunks), 8) for ids in engine(chunks[start : start + 8])]
            rates[name].append(size_mb / (time.perf_counter() - began))
            equal[name] = all(list(one) == ids.tolist() for one, ids in zip(got, expected[name[:3]], strict=True))
    targets = {"BPE: ours, one core, no word known": "BPE to ids", "characters: ours, one core": "characters to ids"}
    rows = [
        Row([name, statistics.median(rate), equal[name]], targets.get(name, ""), statistics.median(rate))
        for name, rate in rates.items()
    ]
    notes = [
        f"{size_mb:.1f} MB of Python and English in chunks of 256 k characters, engines in turn, medians of {rounds}."
    ]
    return Table("prepare_encoding", "Text to ids, MB/s", ["engine", "MB/s", "ids equal ours"], rows, notes)


def memory_of(process: int) -> float:
    """Resident memory of a process and its children, MB; pages that they share count for each."""
    kilobytes = 0
    for one in [process, *map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]:
        status = Path(f"/proc/{one}/status").read_text()
        kilobytes += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return kilobytes / 1024


def watch(process: subprocess.Popen[str], peak: list[float]) -> None:
    """Keep the largest memory until the process has ended."""
    while process.poll() is None:
        try:
            peak[0] = max(peak[0], memory_of(process.pid))
        except (FileNotFoundError, ProcessLookupError):
            # One of them ended between two looks.
            continue
        time.sleep(0.01)


def prepared(path: Path, kind: str, workers: int, home: str) -> tuple[dict, float]:
    """Figures of one `prepare` in a process of its own, and the peak memory of all its processes."""
    peak = [0.0]
    command = [sys.executable, "-c", PROGRAM, str(path), kind, str(workers)]
    environment = os.environ | {"MLP_HOME": home}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        watcher = threading.Thread(target=watch, args=(process, peak))
        watcher.start()
        output, _ = process.communicate()
        watcher.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    return json.loads(output.splitlines()[-1]), peak[0]


def preparing_table(text: str, sizes_mb: Sequence[int], rounds: int) -> Table:
    """Whole preparations: vocabulary, ids, checksums, and all of it on the disk."""
    numbers = sorted({1, 2, max(1, int(probe().usable_cores))})
    cases = [
        (kind, number) for kind in ("byte", "char", "byte_bpe") for number in (numbers if kind == "byte_bpe" else [1])
    ]
    rows, problems = [], []
    with tempfile.TemporaryDirectory() as folder:
        for size_mb in sizes_mb:
            path = Path(folder) / f"{size_mb}.txt"
            size = size_mb * 1_000_000
            path.write_text((text * (size // len(text) + 1))[:size], encoding="utf-8")
            fingerprints: dict[str, set[str]] = {}
            for kind, number in cases:
                progress(f"preparing {size_mb} MB: {kind}, {number} processes")
                runs = []
                for _ in range(rounds):
                    with tempfile.TemporaryDirectory(dir=folder) as home:
                        runs.append(prepared(path, kind, number, home))
                rate = path.stat().st_size / 1e6 / statistics.median(figures["seconds"] for figures, _ in runs)
                fingerprints.setdefault(kind, set()).update(figures["fingerprint"] for figures, _ in runs)
                torch = any(figures["torch"] for figures, _ in runs)
                rows.append(Row([kind, number, size_mb, rate, max(peak for _, peak in runs), torch]))
            problems += [
                f"{kind}: the data set depends on the number" for kind, all_ in fingerprints.items() if len(all_) > 1
            ]
            path.unlink()
    columns = ["tokenizer", "processes", "text, MB", "MB/s", "peak memory of all, MB", "torch imported"]
    notes = [
        "The standard library over and over; vocabulary of 8,192 learnt on the way, checksums and fsync included.",
        "Resident memory, looked at every 10 ms; with several processes the one that prepares is counted, too.",
    ]
    return Table("prepare", "Preparing end to end", columns, rows, notes, problems)


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Engines, then whole preparations."""
    text = stdlib_text()
    yield encoding_table(text, rounds=2 if options.quick else 5)
    yield preparing_table(text, [20] if options.quick else [20, 200], rounds=1 if options.quick else 3)


if __name__ == "__main__":
    publish(tables, command_line(__doc__))
