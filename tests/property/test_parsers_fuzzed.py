"""Whatever a file holds, its reader gives a value that round-trips, or says what is wrong; `make fuzz` tries for hours."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzzing.mutation import mutated
from tests.fuzzing.targets import Target, all_targets, breach

EXAMPLES = 15

READERS = [
    *(f"{what}.{suffix}" for what in ("document", "job") for suffix in ("json", "yaml", "toml")),
    *(
        "set",
        "environment",
        "chat row",
        "chat lines",
        "text.utf-8",
        "text.utf-16",
        "text.cp1252",
        "control",
        "journal",
        "machine.json",
        "safetensors",
    ),
    *(f"run.{name}" for name in ("status.json", "result.json", "metrics.jsonl", "events.jsonl", "config.json")),
    *("run.environment.json", "run.live.jsonl", "run.20260102-000000-aaaa.json", "run.20260102-000000-bbbb.txt"),
    *(
        "tokenizer.char",
        "tokenizer.byte",
        "tokenizer.byte_bpe",
        "tokenizer.ngram",
        "dataset.json",
        "dataset.json, sealed",
    ),
    *("MANIFEST.json", "progress.json, sealed", "hooks.json, sealed", "config.json, sealed"),
    *("hugging_face.gpt2", "hugging_face.llama", "hugging_face.qwen3"),
]


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Target]]:
    """All readers, over folders of their own."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLP_HOME", f"{folder}/home")
        made = {target.name: target for target in all_targets(Path(folder) / "made")}
        patch.undo()
        yield made


def test_every_reader_is_tried(targets: dict[str, Target]) -> None:
    """The list above is complete."""
    assert sorted(targets) == sorted(READERS)


@pytest.mark.parametrize("name", READERS)
def test_reader_of_valid_content_keeps_the_law(targets: dict[str, Target], name: str) -> None:
    """What is changed below is accepted as it is, so that the changes are what is tried."""
    target = targets[name]
    for content in target.seeds:
        target.read(content)
        assert breach(target, content) == ""


@pytest.mark.parametrize("name", READERS)
@given(random=st.randoms(use_true_random=False))
@settings(max_examples=EXAMPLES)
def test_reader_of_changed_content_keeps_the_law(targets: dict[str, Target], name: str, random: Random) -> None:
    """A value that round-trips or a refusal in words, in a few seconds and a few megabytes."""
    content = mutated(targets[name].seeds, random)
    assert breach(targets[name], content) == "", content


@given(content=st.binary(max_size=60), name=st.sampled_from(READERS))
def test_reader_of_noise_keeps_the_law(targets: dict[str, Target], content: bytes, name: str) -> None:
    """What is no file of ours at all."""
    assert breach(targets[name], content) == ""
