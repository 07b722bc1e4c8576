"""Fine-tuning, whole processes in turn: ours with all monitoring on, and trl's SFTTrainer, on the same model, rows and batches.

trl lives in an environment of its own: `--trl PYTHON`, or MLP_BENCH_PYTHON_TRL, names its interpreter. It competes in its fastest
settings (layers are not recomputed, nothing is logged on the way), padded, with its rows of a batch in one (padding_free), and with
its own packing; once also as it comes.
"""

import argparse
import importlib
import inspect
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import run

from paired import Pair, Program, Turns, in_turn
from tables import Row, Table, command_line, progress, publish
from train_speed import has

HERE = Path(__file__).parent
OURS, TRL, FREE, DEFAULT = "ours", "trl", "trl, padding_free", "trl as it comes"
SIZES = {"width": 512, "layers": 8, "heads": 8, "vocab_size": 10_000, "context": 1024}
"""A Qwen3 of 32 million parameters."""
MODULES = [
    "argparse",
    "ast",
    "asyncio",
    "bz2",
    "calendar",
    "cmd",
    "codecs",
    "collections",
    "concurrent.futures",
    "configparser",
    "contextlib",
    "copy",
    "csv",
    "ctypes",
    "datetime",
    "decimal",
    "difflib",
    "dis",
    "doctest",
    "email",
    "enum",
    "filecmp",
    "fileinput",
    "fractions",
    "ftplib",
    "functools",
    "gettext",
    "glob",
    "gzip",
    "hashlib",
    "heapq",
    "hmac",
    "html",
    "http.client",
    "inspect",
    "io",
    "itertools",
    "json",
    "locale",
    "logging",
    "lzma",
    "mailbox",
    "math",
    "multiprocessing",
    "netrc",
    "numbers",
    "operator",
    "optparse",
    "os",
    "pathlib",
    "pdb",
    "pickle",
    "platform",
    "plistlib",
    "pprint",
    "random",
    "re",
    "sched",
    "selectors",
    "shelve",
    "shlex",
    "shutil",
    "signal",
    "smtplib",
    "socket",
    "sqlite3",
    "ssl",
    "statistics",
    "string",
    "struct",
    "subprocess",
    "tarfile",
    "tempfile",
    "textwrap",
    "threading",
    "timeit",
    "tkinter",
    "token",
    "tokenize",
    "trace",
    "traceback",
    "turtle",
    "types",
    "typing",
    "unittest",
    "urllib.request",
    "uuid",
    "wave",
    "weakref",
    "xml.dom.minidom",
    "zipfile",
]
LENGTH, PACKED_ROWS, PADDED_ROWS = 512, 2, 8
FEWEST_LETTERS, MOST_LETTERS = 40, 1200
"""Of an answer: short ones teach nothing, longer ones do not fit a row."""


@dataclass(frozen=True)
class Kind:
    """One fine-tuning."""

    layout: str
    lora: bool
    dtype: str

    @property
    def name(self) -> str:
        """As the tables call it."""
        return f"{'LoRA' if self.lora else 'full'}, {self.layout}, {self.dtype}"

    def words(self, folder: Path, *, steps: int) -> list[str]:
        """Options that ask for it."""
        rows = PACKED_ROWS if self.layout == "packed" else PADDED_ROWS
        sizes = ["--rows", str(rows), "--length", str(LENGTH), "--steps", str(steps)]
        return [str(folder), "--layout", self.layout, "--dtype", self.dtype, *sizes, *(["--lora"] if self.lora else [])]


KINDS = [
    Kind(layout, lora, dtype)
    for lora in (False, True)
    for dtype in ("float32", "bfloat16")
    for layout in ("padded", "packed")
]
QUICK = [Kind("padded", lora=False, dtype="bfloat16")]


def docstrings() -> Iterator[tuple[str, str]]:
    """Names of the standard library and what is said of them, each text once."""
    seen: set[str] = set()
    for name in MODULES:
        module = importlib.import_module(name)
        for label, found in sorted(vars(module).items()):
            text = inspect.getdoc(found) if inspect.isfunction(found) or inspect.isclass(found) else None
            if text and len(text) >= FEWEST_LETTERS and text not in seen:
                seen.add(text)
                yield f"{name}.{label}", text[:MOST_LETTERS]


def write_chats(file: Path) -> str:
    """Questions about the standard library and its own answers, one to three in a chat; all texts come back as one.

    Lengths are as uneven as those of people's chats: from thirty tokens to five hundred, the median about a hundred.
    """
    drawn = random.Random(0)
    known = list(docstrings())
    drawn.shuffle(known)
    chats: list[str] = []
    while known:
        messages: list[dict[str, str]] = []
        letters = 0
        for _ in range(drawn.choices((1, 2, 3), (6, 2, 1))[0]):
            if known and letters + len(known[-1][1]) <= MOST_LETTERS:
                label, text = known.pop()
                letters += len(text)
                messages += [
                    {"role": "user", "content": f"What is {label} for?"},
                    {"role": "assistant", "content": text},
                ]
        chats.append(json.dumps({"messages": messages}))
    file.write_text("\n".join(chats) + "\n", encoding="utf-8")
    return "\n".join(chats)


def make(folder: Path) -> None:
    """Model, chats, and the rows of both sides."""
    from ml_playground.core import chat_template
    from ml_playground.models.hugging_face.random_folder import Sizes, write_random_model

    texts = [write_chats(folder / "chats.jsonl")]
    template = Path(chat_template.__file__).with_name("chat_templates") / "chatml.jinja"
    write_random_model(folder / "model", "qwen3", Sizes(**SIZES), texts, seed=0, template=template.read_text())
    script = [sys.executable, str(HERE / "our_sft.py"), str(folder), "--length", str(LENGTH), "--prepare"]
    run(script, check=True, capture_output=True, text=True)


def programs_for(kind: Kind, folder: Path, options: argparse.Namespace) -> list[Program]:
    """Who competes: ours, and trl if it is there."""
    words = kind.words(folder, steps=3 if options.quick else 5)
    found = [Program(OURS, [str(HERE / "our_sft.py"), *words])]
    if not has(options.trl, "trl"):
        return found
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

    def peer(name: str, *more: str) -> Program:
        return Program(name, [str(HERE / "peer_trl.py"), *words, *more], options.trl, offline)

    found.append(peer(TRL))
    if kind.layout == "padded":
        found.append(peer(FREE, "--padding-free"))
        if kind == KINDS[2]:
            found.append(peer(DEFAULT, "--as-it-comes"))
    return found


def speeds(kind: Kind, turns: Turns) -> Iterator[Row]:
    """Ours, and each setting of trl; ours is judged by the fastest of them."""
    columns = ("tokens_per_s", "targets_per_s")
    peers = [name for name in turns.figures if name != OURS]
    best = max(peers, key=lambda name: statistics.median(turns.of(name, columns[0])), default="")
    for name in turns.figures:
        medians = [statistics.median(turns.of(name, column)) for column in columns]
        ratio = None if name == OURS else Pair.of(turns.of(OURS, columns[0]), turns.of(name, columns[0])).ratio
        judged = ("fine-tune against trl", ratio) if name == best else ("", None)
        yield Row([kind.name, name, *medians, ratio], *judged)


def memory(kind: Kind, turns: Turns) -> Iterator[Row]:
    """Ours as a share of each setting of trl that holds what it needs for the way back, as ours does."""
    figure = "beyond_imports_mb"
    for name in turns.figures:
        if name != OURS:
            pair = Pair.of(turns.of(OURS, figure), turns.of(name, figure))
            judged = ("", None) if name == DEFAULT else ("fine-tune memory against trl", pair.ratio)
            yield Row([kind.name, name, pair.a, pair.b, pair.ratio], *judged)


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Speeds, then memory."""
    found: dict[Kind, Turns] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress("a model and chats")
        make(folder)
        for kind in QUICK if options.quick else KINDS:
            progress(f"fine-tuning: {kind.name}")
            found[kind] = in_turn(programs_for(kind, folder, options), rounds=1 if options.quick else 2)
    problems = [f"{kind.name}: {problem}" for kind, turns in found.items() for problem in turns.problems]
    notes = [
        f"A random Qwen3 ({SIZES['width']} wide, {SIZES['layers']} layers, {SIZES['vocab_size']} ids), chats about the standard library.",
        f"The same ids and labels for all; {PADDED_ROWS} padded rows a batch, or {PACKED_ROWS} packed ones of {LENGTH}; LoRA has rank 16.",
        "Tokens are real ones, padding left out. Medians of whole processes in turn; ours with all monitoring on, trl without its own.",
        "trl: fused AdamW, layers not recomputed, nothing logged; padding_free lays the rows of a batch in one; packing is its own.",
        "trl as it comes: its defaults, which recompute layers.",
    ]
    notes += [] if has(options.trl, "trl") else ["Not installed: trl."]
    rows = [row for kind, turns in found.items() for row in speeds(kind, turns)]
    columns = ["fine-tuning", "program", "tokens/s", "targets/s", "ours against it"]
    yield Table("sft", "Fine-tuning chats, tokens/s", columns, rows, notes, problems)
    rows = [row for kind, turns in found.items() for row in memory(kind, turns)]
    columns = ["fine-tuning", "program", "ours, MB", "its, MB", "ratio"]
    yield Table("sft_memory", "Fine-tuning chats, peak memory beyond the imports of each side", columns, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="fine-tuning against trl")
    parser.add_argument(
        "--trl",
        metavar="PYTHON",
        default=os.environ.get("MLP_BENCH_PYTHON_TRL", sys.executable),
        help="the interpreter that has trl",
    )
    publish(tables, command_line(None, parser))
