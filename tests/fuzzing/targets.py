"""Every reader of a file that may come from elsewhere, as one function from bytes to a value.

The law: any bytes give a value that round-trips, or a PlaygroundError; never another exception, never a wait, never much memory.
"""

import json
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from time import thread_time
from typing import Any, NamedTuple

from ml_playground.configuration.documents import read_document
from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.overrides import environment_layers, set_layer
from ml_playground.configuration.yaml_format import read_yaml
from ml_playground.core.error_handling import PlaygroundError
from ml_playground.data_pipeline.sources.chat_rows import chat_of
from ml_playground.data_pipeline.sources.jsonl_rows import lines, parse_row
from ml_playground.data_pipeline.sources.text_pieces import text_pieces
from tests.fuzzing.memory import Growth

MOST_SECONDS = 5.0
"""Of this thread, for an input of at most a megabyte, on a machine that takes `PLAIN_S` for the reckoning of `slowness`."""
PLAIN_S = 0.03
"""Of a core of 2.6 GHz that counts no lines; where lines are counted it takes three and a half times as long."""
MOST_BYTES = 400 << 20
"""By which the memory of the process may grow over one input."""

EXPERIMENT = Path(__file__).parents[1] / "fakes" / "every_section"


class Target(NamedTuple):
    """One reader."""

    name: str
    seeds: tuple[bytes, ...]
    """Valid inputs, which are changed."""
    read: Callable[[bytes], Any]
    """The value of an input, as something that `==` compares.

    Raises:
        PlaygroundError: The input is refused.
    """
    again: Callable[[Any], bytes] | None = None
    """The input of a value, where the program writes such files."""

    def __repr__(self) -> str:
        return f"Target({self.name})"


@cache
def slowness() -> float:
    """How many times longer Python of ours takes here than on a plain machine; at least 1."""

    def seconds() -> float:
        began_s = thread_time()
        read_yaml("a:\n" + "- a\n" * 2000, "")
        return thread_time() - began_s

    return max(1.0, min(seconds() for _ in range(3)) / PLAIN_S)


def breach(target: Target, content: bytes, *, most_seconds: float = MOST_SECONDS, most_bytes: int = MOST_BYTES) -> str:
    """How an input breaks the law, in words; empty where it does not."""
    growth, started_s = Growth(), thread_time()
    try:
        value = target.read(content)
    except PlaygroundError as error:
        found = "" if str(error).strip() else f"{type(error).__name__} without a word"
    except Exception:  # noqa: BLE001 - whatever else comes is what is looked for
        found = traceback.format_exc()
    else:
        found = _changed(target, value)
    seconds = thread_time() - started_s
    grown = growth.bytes
    if not found and seconds > most_seconds * slowness():
        found = f"took {seconds:.1f} s"
    if not found and grown > most_bytes:
        found = f"took {grown >> 20} MiB"
    return found


def _changed(target: Target, value: Any) -> str:
    """What became of a value that was written and read again."""
    if target.again is None:
        return ""
    try:
        other = target.read(target.again(value))
    except Exception:  # noqa: BLE001 - what was accepted must be accepted again
        return f"was read, but not a second time:\n{traceback.format_exc()}"
    # NaN is not equal to itself, but prints the same.
    return "" if repr(other) == repr(value) else f"was {value!r:.200}, then {other!r:.200}"


def all_targets(folder: Path) -> Iterator[Target]:
    """Every reader, over folders of their own; while they are made, MLP_HOME must be a folder that is thrown away."""
    from tests.fuzzing.folder_targets import folder_targets

    yield from light_targets(folder / "settings")
    yield from folder_targets(folder)


def light_targets(folder: Path) -> Iterator[Target]:
    """Readers of settings and of rows; free of torch."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = (
        {"name": "a", "seed": 3, "model": {"kind": "gpt", "n_layer": 2}, "use": ["model/tiny"]},
        {
            "train": {"max_steps": 500, "grad_clip": 0.5},
            "hooks": {"s": {"kind": "status"}},
            "sample": {"prompts": ["a\nb"]},
        },
    )
    seeds = {
        "json": tuple(json.dumps(table, indent=1).encode() for table in tables),
        "yaml": (
            b"name: a\nseed: 3\nmodel:\n  kind: gpt\n  rate: 1e-3\n  l: [1, ~, 'x']\nt: |\n  text\n",
            b"a: {b: [c]}\n",
        ),
        "toml": (
            (EXPERIMENT / "config.toml").read_bytes(),
            b'name = "a"\nuse = ["model/tiny"]\n[model]\nkind = "gpt"\nx.y = { a = 1, "b.c" = [1.5, true] }\nt = """a\nb"""\n[[l]]\n',
        ),
    }
    jobs = seeds | {
        "yaml": (
            b"seed: 3\nmodel:\n  n_layer: 2\ntrain: {grad_clip: 0.5, max_steps: 400}\nsample:\n  prompts: [a, 'b']\n",
        ),
        "toml": (
            seeds["toml"][0],
            b'use = ["model/tiny"]\n[hooks.s]\nkind = "samples"\nevery_steps = 5\n[optimizer]\nkind = "muon"\n',
        ),
    }
    for suffix, contents in seeds.items():
        yield Target(
            f"document.{suffix}", contents, _document_reader(folder, suffix), _as_json if suffix == "json" else None
        )
        yield Target(f"job.{suffix}", jobs[suffix], _job_reader(folder, suffix))
    chats = (
        b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ["a", {"text": "b"}]}]}',
        b'{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "a"}]}',
        b'{"instruction": "add", "input": "1, 2", "output": "3", "system": "s"}',
        b'{"text": "alone"}',
    )
    yield Target("chat row", chats, lambda content: repr(chat_of(parse_row(content), "row 1")))
    yield Target("chat lines", (b"\n".join(chats), b"\n\n".join(chats) + b"\n"), _chat_lines)
    for encoding in ("utf-8", "utf-16", "cp1252"):
        texts = tuple(text.encode(encoding) for text in ("To be, or not to be.\n", "n\u00e9, \u20ac\n" * 9))
        yield Target(f"text.{encoding}", texts, _text_reader(folder, encoding), lambda text, e=encoding: text.encode(e))
    sets = (
        b"train.max_steps=200",
        b"use=['model/tiny']",
        b'model={kind="gpt", n_layer=2}',
        b"sample.prompts=a = b",
        b"seed=0x1f",
    )
    yield Target("set", sets, _set_reader(folder))
    yield Target("environment", seeds["json"], _environment_reader(folder))


def _chat_lines(content: bytes) -> Any:
    """The rows of a file that is read in small blocks, and of the same file read at once: they must be equal."""
    blocks = [content[start : start + 7] for start in range(0, len(content), 7)] if len(content) < 10_000 else [content]
    found = [(line.offset, line.raw, line.size_bytes) for line in lines(blocks, most_bytes=200)]
    if found != [(line.offset, line.raw, line.size_bytes) for line in lines([content], most_bytes=200)]:
        raise AssertionError("the blocks in which a file is read change its lines")
    rows: list[str] = []
    for _, raw, _ in found:
        try:
            rows.append(repr(chat_of(parse_row(raw), "row")))
        except PlaygroundError as error:
            rows.append(str(error))
    return rows


def _text_reader(folder: Path, encoding: str) -> Callable[[bytes], Any]:
    file = folder / f"text.{encoding}"

    def read(content: bytes) -> Any:
        file.write_bytes(content)
        return "".join(text_pieces(file, encoding))

    return read


def _as_json(table: Any) -> bytes:
    return json.dumps(table).encode()


def _document_reader(folder: Path, suffix: str) -> Callable[[bytes], Any]:
    file = folder / f"document.{suffix}"

    def read(content: bytes) -> Any:
        file.write_bytes(content)
        return read_document(file).table

    return read


def _job_reader(folder: Path, suffix: str) -> Callable[[bytes], Any]:
    file = folder / f"layer.{suffix}"

    def read(content: bytes) -> Any:
        file.write_bytes(content)
        return _round_tripped(load(str(EXPERIMENT), files=[file], environ={}).job)

    return read


def _round_tripped(job: JobConfig) -> str:
    """A job as it is recorded, which is the same job when it is read again."""
    text = job.model_dump_json()
    if JobConfig.model_validate_json(text) != job:
        raise AssertionError(f"the job is another one after it was recorded: {text}")
    return text


def _set_reader(folder: Path) -> Callable[[bytes], Any]:
    tree = load(str(EXPERIMENT), environ={}).job.model_dump(mode="json")

    def read(content: bytes) -> Any:
        # As a command line arrives: bytes that are no UTF-8 are lone surrogates in it.
        text = content.decode(errors="surrogateescape")
        layer, problems = set_layer([text], folder, tree)
        if not problems:
            _round_trip_or_problem(text)
        "".join(problems).encode()
        return layer.table

    return read


def _round_trip_or_problem(text: str) -> None:
    try:
        _round_tripped(load(str(EXPERIMENT), sets=[text], environ={}).job)
    except PlaygroundError as error:
        str(error).encode()


def _environment_reader(folder: Path) -> Callable[[bytes], Any]:
    def read(content: bytes) -> Any:
        text = content.decode(errors="surrogateescape")
        found = [
            layer if isinstance(layer, str) else layer.table
            for layer in environment_layers({"ML_PLAYGROUND_OVERRIDES": text}, folder)
        ]
        json.dumps(found)
        return found

    return read
