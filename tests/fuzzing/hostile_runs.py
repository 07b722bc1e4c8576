"""Checkpoints as a stranger would make them, each opened by `mlp sample` in a process that measures what it takes.

Called as `python -m tests.fuzzing.hostile_runs FOLDER`; one JSON object: name -> exit code, stderr, bytes of memory, processor seconds.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_playground.cli import main
from tests.fakes.trained_run import job_of, save_run
from tests.fuzzing.memory import Growth
from tests.fuzzing.sealing import seal

Change = Callable[[Path], object]


def in_config(**sections: Mapping[str, Any]) -> Change:
    """Other values in the recorded job."""

    def change(path: Path) -> None:
        file = path / "config.json"
        table = json.loads(file.read_text())
        for name, values in sections.items():
            table[name] |= values
        file.write_text(json.dumps(table))

    return change


def in_top(path: Path, **values: Any) -> None:
    """Other values at the top of the recorded job."""
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def in_header(change_header: Callable[[dict[str, Any]], object]) -> Change:
    """Another header of the weights, over the same bytes."""

    def change(path: Path) -> None:
        file = path / "model.safetensors"
        content = file.read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        change_header(header)
        text = json.dumps(header).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])

    return change


def first(header: dict[str, Any]) -> dict[str, Any]:
    """A tensor of it."""
    found: dict[str, Any] = header[min(name for name in header if name != "__metadata__")]
    return found


def put(name: str, content: bytes) -> Change:
    """Another file in its place."""
    return lambda path: (path / name).write_bytes(content)


def link(name: str, target: str) -> Change:
    """A link in its place."""

    def change(path: Path) -> None:
        (path / name).unlink()
        (path / name).symlink_to(target)

    return change


def tokenizer(**values: Any) -> Change:
    """Other values in the tokenizer."""

    def change(path: Path) -> None:
        file = path / "tokenizer" / "tokenizer.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def manifest(name: str) -> Change:
    """A manifest that names another file as well."""

    def change(path: Path) -> None:
        seal(path, more={name: b""})

    return change


SEALED: Mapping[str, tuple[Change, str]] = {
    "a model of a hundred terabytes": (in_config(model={"n_layer": 2000, "n_embd": 1 << 20}), "describes a model of"),
    "a million blocks": (in_config(model={"n_layer": 10**6}), "n_layer"),
    "a context of a trillion": (in_config(model={"block_size": 10**12}), "block_size"),
    "rotary tables of terabytes": (
        in_config(model={"position": "rotary", "block_size": 1 << 24, "head_dim": 1 << 16}),
        "Rotary positions of 16777216",
    ),
    "a bigram table of terabytes": (
        in_config(model={"bigram_rows": 1 << 32, "n_embd": 1 << 20}),
        "describes a model of",
    ),
    "a wrong type": (in_config(model={"n_layer": "2"}), "n_layer"),
    "a trillion samples": (in_config(sample={"num_samples": 10**12}), "num_samples"),
    "a million threads": (in_config(runtime={"threads": 10**6}), "threads"),
    "numbers without end": (in_config(train={"max_steps": 10**400}), "max_steps"),
    "a config that is nested deeply": (put("config.json", b'{"a": ' * 50_000), "config.json"),
    "a config of megabytes": (lambda path: os.truncate(path / "config.json", 1 << 24), "is larger than"),
    "a name that leads out": (lambda path: in_top(path, name="../../elsewhere"), "name"),
    "a name of a device": (lambda path: in_top(path, name="nul"), "name"),
    "progress beyond all numbers": (
        lambda path: (path / "progress.json").write_text(
            (path / "progress.json")
            .read_text()
            .replace('"lr_factor": 1.0', '"lr_factor": NaN')
            .replace("1.0", "Infinity")
        ),
        "progress.json is not as it was written",
    ),
    "a header of exabytes": (put("model.safetensors", b"\xff" * 8 + b"{}"), "cannot be read as tensors"),
    "a header that is nested deeply": (
        put("model.safetensors", (100_000).to_bytes(8, "little") + b'{"a":' * 20_000),
        "cannot be read as tensors",
    ),
    "a tensor beyond the file": (
        in_header(lambda header: first(header).update(data_offsets=[0, 1 << 40])),
        "cannot be read",
    ),
    "a tensor before the file": (
        in_header(lambda header: first(header).update(data_offsets=[-8, 8])),
        "cannot be read",
    ),
    "tensors over each other": (
        in_header(lambda header: [entry.update(data_offsets=[0, 4]) for entry in header.values()]),
        "cannot be read",
    ),
    "a shape that overflows": (
        in_header(lambda header: first(header).update(shape=[1 << 32, 1 << 32, 1])),
        "cannot be read",
    ),
    "a shape below zero": (in_header(lambda header: first(header).update(shape=[-1])), "cannot be read"),
    "a type that there is not": (in_header(lambda header: first(header).update(dtype="OBJECT")), "cannot be read"),
    "weights that are whole numbers": (in_header(lambda header: first(header).update(dtype="I32")), "do not fit"),
    "weights that are complex": (
        in_header(lambda header: first(header).update(dtype="C64", shape=[first(header)["shape"][0] // 2])),
        "do not fit",
    ),
    "a vocabulary without end": (tokenizer(characters=[chr(code) for code in range(0x110000)]), "do not fit"),
    "a tokenizer of a stranger's kind": (tokenizer(kind="os:system"), "unknown kind 'os:system'"),
    "a tokenizer that is nested deeply": (put("tokenizer/tokenizer.json", b"[" * 1_000_000), "it is nested too deeply"),
    "a tokenizer of half a gigabyte": (
        lambda path: os.truncate(path / "tokenizer" / "tokenizer.json", 1 << 29),
        "tokenizer.json cannot be read",
    ),
}
"""What fits its manifest."""

UNSEALED: Mapping[str, tuple[Change, str]] = {
    "weights behind a link": (link("model.safetensors", "/etc/passwd"), "is a link or no file"),
    "a config behind a link": (link("config.json", "/dev/zero"), "is a link or no file"),
    "a pipe": (lambda path: os.mkfifo(path / "more"), "is a link or no file"),
    "a manifest of a pipe": (
        lambda path: ((path / "MANIFEST.json").unlink(), os.mkfifo(path / "MANIFEST.json")),
        "is a link or no file",
    ),
    "a manifest of a gigabyte": (
        lambda path: os.truncate(path / "MANIFEST.json", 1 << 30),
        "at most 67108864 are read",
    ),
    "a manifest that is nested deeply": (
        put("MANIFEST.json", b'{"files":' * 100_000),
        "MANIFEST.json is not as it was",
    ),
    "a manifest of other files": (manifest("../../../etc/passwd"), "which is no plain name"),
    "a manifest of absolute files": (manifest("/etc/passwd"), "which is no plain name"),
    "a manifest of a device": (manifest("con"), "which is no plain name"),
}
"""What contradicts its manifest, or is no manifest."""

CASES = {**SEALED, **UNSEALED}


def run() -> None:
    """Make them all, open them all."""
    folder = Path(sys.argv[1])
    os.environ["MLP_HOME"] = str(folder / "home")
    whole = save_run(job_of(folder), {5: 2.0}).checkpoints / "step_000005"
    # The first one loads the libraries, which later ones find loaded.
    outcomes = {"whole": opened(whole)}
    outcomes["whole"] = opened(whole)
    for number, (name, (change, _)) in enumerate(CASES.items()):
        path = folder / str(number) / "step_000005"
        shutil.copytree(whole, path)
        change(path)
        if name in SEALED:
            seal(path)
        outcomes[name] = opened(path)
        shutil.rmtree(path)
    json.dump(outcomes, sys.stdout)


def opened(path: Path) -> dict[str, Any]:
    """How `mlp sample` ends with it."""
    growth, started_s = Growth(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(["sample", str(path)])
    return {
        "code": code,
        "errors": errors.getvalue(),
        "bytes": growth.bytes,
        "seconds": time.process_time() - started_s,
    }


if __name__ == "__main__":
    run()
