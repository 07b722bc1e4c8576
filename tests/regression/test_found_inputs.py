"""Inputs that once ended a reader with a traceback, a wait or a lie; `make fuzz` and reviews found them."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fuzzing.targets import Target, all_targets, breach

DEEP = b'{"a": ' * 400 + b"1" + b"}" * 400
FOUND: list[tuple[str, bytes]] = [
    # The decoder of UTF-16 answers with a UnicodeError that is no UnicodeDecodeError.
    ("text.utf-16", b"ab"),
    # Walked through by recursion where the page is made.
    ("run.config.json", DEEP),
    ("run.environment.json", DEEP),
    ("run.events.jsonl", b'{"time":"2026-01-02T03:04:05Z","step":0,"kind":"a","data":' + DEEP + b"}\n"),
    # The parser's own stack.
    ("run.status.json", b"[" * 100_000),
    ("run.live.jsonl", b"[" * 100_000 + b"\n"),
    ("tokenizer.char", b"[" * 100_000),
    ("hugging_face.llama", b"[" * 100_000),
    # Not a table where one was looked into.
    ("run.config.json", b'{"hooks": [1]}'),
    ("run.config.json", b'{"hooks": {"a": 3}}'),
    ("journal", b'{"time": "2026-01-02T03:04:05Z", "step": 3, "kind": "wish", "data": {"actions": 3}}\n'),
    ("journal", b'{"time": "2026-01-02T03:04:05Z", "step": 3, "kind": "wish", "data": {"lr_factor": NaN}}\n'),
    # Steps that overflow a float where a speed is reckoned.
    ("run.metrics.jsonl", b'{"kind": "train", "step": ' + b"9" * 400 + b', "values": {"loss": 1.0}}\n'),
    (
        "run.status.json",
        b'{"run":"a/b","state":"training","pid":1,"updated_at":"2026-01-02T03:04:05Z","step":1,"max_steps":'
        + b"9" * 400
        + b"}",
    ),
    # Read in any length, printed in none.
    ("job.toml", b"seed = 0x" + b"f" * 6000),
    ("set", b"seed=0x" + b"f" * 6000),
    # The square of the parts of a key, of the keys of a table.
    ("document.toml", b"a" + b".a" * 400_000 + b" = 1"),
    ("set", b"a" + b".a" * 60_000 + b"=1"),
    ("document.json", b"{" + b", ".join(b'"%d": 0' % number for number in range(90_000)) + b', "89999": 0}'),
    ("chat row", b"{" + b", ".join(b'"%d": 0' % number for number in range(90_000)) + b', "89999": 0}'),
    # Half a minute of a parser in Python.
    ("document.yaml", b"a:\n" + b"- a\n" * 240_000),
    # Beyond what `chr` takes.
    ("document.yaml", b'a: "\\UFFFFFFFF"'),
    # Types of another architecture.
    ("hugging_face.qwen3", b'{"model_type": "qwen3", "layer_types": [["a"]]}'),
    ("hugging_face.llama", b'{"model_type": "llama", "rope_scaling": "linear"}'),
    # Sizes that are stated as none.
    (
        "hugging_face.gpt2",
        b'{"model_type": "gpt2", "n_embd": 16, "n_head": 4, "n_inner": 64, "n_layer": 2, "n_positions": 12, "vocab_size": null}',
    ),
    # Read as infinite, written as null, and all figures of a machine are lost.
    (
        "machine.json",
        (
            b'[{"identity": {"processor": "p", "features": "", "usable_cores": Infinity, "physical_cores": 2, '
            b'"torch": "2", "device": "cpu", "asked_threads": ""}, "rates": {"device": "cpu", "threads": 2, '
            b'"float32_flops_per_s": 1.0, "bfloat16_flops_per_s": null, "read_bytes_per_s": 1.0}}]'
        ),
    ),
]


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Target]]:
    """All readers, over folders of their own."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLP_HOME", f"{folder}/home")
        made = {target.name: target for target in all_targets(Path(folder) / "made")}
        patch.undo()
        yield made


@pytest.mark.parametrize(("name", "content"), FOUND, ids=[f"{name} {content[:30]!r}" for name, content in FOUND])
def test_input_found_once_keeps_the_law(targets: dict[str, Target], name: str, content: bytes) -> None:
    """A value that round-trips or a refusal in words, in a few seconds and a few megabytes."""
    assert breach(targets[name], content) == ""
