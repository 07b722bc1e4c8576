"""`--set` and the environment: how a text becomes a value, and every refusal."""

from pathlib import Path
from typing import Any

import pytest

from ml_playground.configuration.loading import load
from ml_playground.configuration.overrides import environment_layers, set_layer
from ml_playground.core.error_handling import ConfigError

TREE = {
    "hooks": {"samples": {"kind": "samples"}},
    "optimizer": {"kind": "adamw"},
    "prepare": {"source": {"kind": "text_file"}},
}


def value_of(text: str) -> Any:
    """What one --set sets, at the end of its path."""
    layer, problems = set_layer([text], Path("/"), TREE)
    assert problems == []
    node: Any = layer.table
    while isinstance(node, dict) and node:
        node = next(iter(node.values()))
    return node


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("seed=3", 3),
        (" seed = 3 ", 3),
        ("optimizer.lr=1e-3", 0.001),
        ("optimizer.lr=1_0.5", 10.5),
        ("runtime.compile=true", True),
        ("runtime.compile=auto", "auto"),
        ("runtime.dtype=float32", "float32"),
        ('runtime.dtype="float32"', "float32"),
        ("train.max_steps=none", None),
        ("train.max_steps=null", None),
        ("train.max_steps=nothing", "nothing"),
        ("name=none", "none"),
        ("name=7", "7"),
        ("name='7'", "7"),
        ("name=", ""),
        ("hooks.samples.prompt=none", None),
        ('hooks.samples.prompt="none"', "none"),
        ("hooks.samples.prompt=a = b", "a = b"),
        ('hooks.samples.prompt="a\\nb"', "a\nb"),
        ("hooks.samples.prompt={", "{"),
        ("hooks.samples.prompt=[1]", "[1]"),
        ("hooks.samples.prompt=true", "true"),
        ("hooks.samples.enabled=false", False),
        ("sample.prompts=once", ["once"]),
        ("sample.prompts=3", ["3"]),
        ('sample.prompts="a"', ["a"]),
        ('sample.prompts=["a", "b"]', ["a", "b"]),
        ("use=model/tiny", ["model/tiny"]),
        ("prepare.source.path=x.txt", "x.txt"),
        ("no.such.key=3", 3),
        ("no.such.key=word", "word"),
        ("seed=1\nname = 2", "1\nname = 2"),
        ('hooks."a.b".enabled=true', True),
        ('"quoted=key".x=1', 1),
    ],
)
def test_set_text_becomes_the_value_that_the_key_takes(text: str, value: Any) -> None:
    """A TOML value; bare words are text, and text stays text where nothing else is allowed."""
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)


def test_set_inline_table_merges_with_other_sets() -> None:
    """All --set are one layer; later ones win."""
    sets = ['prepare.source={kind="text_file", path="x"}', "prepare.source.path=y", "seed=1", "seed=2"]
    layer, problems = set_layer([*sets, 'prepare.source={encoding="a"}'], Path("/"), TREE)
    assert problems == []
    assert layer.table == {"prepare": {"source": {"kind": "text_file", "path": "y", "encoding": "a"}}, "seed": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "--set seed: must look like KEY=VALUE, for example train.max_steps=200"),
        ("=3", "--set =3: must look like KEY=VALUE"),
        ("", "--set : must look like KEY=VALUE"),
        ("a b=3", "'a b' is no key; it is words joined by dots, for example train.max_steps"),
        ("a..b=3", "'a..b' is no key"),
        ("a\nb=3", "is no key"),
        ("[a]=3", "'[a]' is no key"),
        (".".join("a" * 30) + "=3", "is no key"),
        (".".join("a" * 5000) + "=3", "is no key"),
        ("seed={", "--set seed={: '{' is not a valid TOML value: "),
        ("prepare.source={kind='a' path='b'}", "is not a valid TOML value"),
        ("seed=" + "[" * 5000, "is not a valid TOML value"),
        ('runtime.dtype="x', "is not a valid TOML value"),
        ("seed=2024-01-01", "--set seed=2024-01-01: seed is a date or a time; no setting takes one"),
    ],
)
def test_set_bad_text_is_refused_in_words(text: str, message: str) -> None:
    """What was typed stands in the message."""
    layer, problems = set_layer([text], Path("/"), TREE)
    assert layer.table == {}
    assert [message in problem for problem in problems] == [True]


def test_set_key_below_a_value_is_refused() -> None:
    """Two --set that contradict each other."""
    _, problems = set_layer(["train=3", "train.max_steps=4"], Path("/"), TREE)
    assert problems == ["--set train.max_steps=4: another --set gives train a value, so it has no keys"]


def test_set_bytes_that_are_no_text_are_shown_escaped() -> None:
    """A command line may hold any bytes; what is printed must be text."""
    layer, problems = set_layer(["name=a\udcff"], Path("/"), TREE)
    assert problems == []
    assert layer.table == {"name": "a\\udcff"}


def test_environment_sections_lie_under_their_tables() -> None:
    """TRAIN and SAMPLE hold keys of their own section."""
    environ = {
        "ML_PLAYGROUND_SAMPLE_OVERRIDES": '{"top_k": 5}',
        "ML_PLAYGROUND_TRAIN_OVERRIDES": '{"max_steps": 3}',
        "ML_PLAYGROUND_OVERRIDES": '{"seed": 1}',
        "OTHER": "{",
    }
    layers = [layer for layer in environment_layers(environ, Path("/")) if not isinstance(layer, str)]
    assert [dict(layer.table) for layer in layers] == [
        {"seed": 1},
        {"train": {"max_steps": 3}},
        {"sample": {"top_k": 5}},
    ]


@pytest.mark.parametrize("text", ["", " \n"])
def test_environment_empty_variable_counts_as_unset(text: str) -> None:
    """`VARIABLE= command` is how shells unset for one command."""
    assert list(environment_layers({"ML_PLAYGROUND_OVERRIDES": text}, Path("/"))) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "environment variable ML_PLAYGROUND_TRAIN_OVERRIDES, line 1: is not valid JSON"),
        ("[1]", "environment variable ML_PLAYGROUND_TRAIN_OVERRIDES: must be a JSON object"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ('{"nonsense": 1}', "environment variable ML_PLAYGROUND_TRAIN_OVERRIDES: unknown key train.nonsense (got 1)"),
        ('{"train": {"max_steps": 1}}', "unknown key train.train"),
        (
            '{"max_steps": "many"}',
            'train.max_steps cannot be "many" (text) (allowed: a whole number of at least 1, or none)',
        ),
        ("[" * 100_000, "is nested too deeply"),
    ],
)
def test_environment_bad_object_is_refused_by_the_name_of_its_variable(text: str, message: str) -> None:
    """The older systems ignored it in silence, and the run was another than its user believed."""
    with pytest.raises(ConfigError) as caught:
        load("shakespeare", environ={"ML_PLAYGROUND_TRAIN_OVERRIDES": text})
    assert message in str(caught.value)
